"""A model that is served."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from service.serving import serving

Serve = Callable[..., contextlib.AbstractContextManager[httpx.Client]]


@pytest.fixture(scope="session")
def serve() -> Serve:
    return serving


@pytest.fixture
def path(fitted: Path, tmp_path: Path) -> Path:
    """A model of ROWS, for a test to change: 1 to 20 are about deliveries, 21 to 40 about invoices."""
    return Path(shutil.copytree(fitted, tmp_path / "model"))


@pytest.fixture(scope="session")
def shared(fitted: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client for tests that change nothing."""
    with serving(Path(shutil.copytree(fitted, tmp_path_factory.mktemp("shared") / "model"))) as found:
        yield found


@pytest.fixture
def client(path: Path) -> Iterator[httpx.Client]:
    with serving(path) as found:
        yield found
