"""Labelled texts that the tiny encoder tells apart, for tests that need a model and not its quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from likewise.model import Model

ROWS = [
    (f"{what} {which}", topic)
    for topic, subjects in (("delivery", ("parcel ship", "street")), ("invoice", ("bank money", "bill")))
    for what in subjects
    for which in ("late", "lost", "again", "today", "old", "new", "first", "last", "good", "bad")
]


FILLER = (
    "bank battery bill bird book box bus car cat city coffee dog door drink email family fire food game green house "
    "letter light mail money month music night office paper park phone plane price rain river road school sea ship "
    "shop store street sun team town train tree water wind window winter word work world year"
)


def moods(count: int, seed: int) -> tuple[list[str], list[str]]:
    """Long texts of which one word alone matters: the frozen encoder loses it among the others."""
    rng = np.random.default_rng(seed)
    labels = ["sad", "happy"] * (count // 2)
    texts = []
    for label in labels:
        words = rng.choice(FILLER.split(), 14).tolist()
        words.insert(int(rng.integers(15)), label)
        texts.append(" ".join(words))
    return texts, labels


def saved(rows: Sequence[tuple[str, str]], encoder: Path, path: Path) -> Path:
    """A model of these rows with an encoder as it is, saved. Not to be changed: tests copy it."""
    from likewise.fitting import fit

    texts, labels = zip(*rows, strict=True)
    fit(texts, labels, recipe="frozen", encoder=str(encoder)).save(path).close()
    return path


def problem(texts: int = 400, labels: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Several labels a text: truth, and probabilities that know something of it, each label off by its own factor."""
    rng = np.random.default_rng(seed)
    truth = rng.random((texts, labels)) < np.geomspace(0.5, 0.05, labels)
    logits = 2.0 * truth - 1 + rng.normal(size=truth.shape) + np.linspace(-2, 1, labels)
    return truth, 1 / (1 + np.exp(-logits))


@contextmanager
def exact_and(encoder: Path, **settings: Any) -> Iterator[tuple[Model, Model]]:
    """A model of `ROWS` with an encoder as it is, and another that differs from it by these settings."""
    from likewise.fitting import fit
    from likewise.settings import Settings

    texts, labels = zip(*ROWS, strict=True)
    with (
        fit(texts, labels, recipe="frozen", encoder=str(encoder)) as exact,
        fit(texts, labels, recipe="frozen", encoder=str(encoder), settings=Settings(**settings)) as other,
    ):
        yield exact, other


def alike(found: Any, expected: Any, within: float) -> bool:
    """Whether predictions as JSON are equal, but for what the order of equal changes does to sums of rounded floats."""
    if isinstance(found, dict) and isinstance(expected, dict):
        return found.keys() == expected.keys() and all(alike(found[key], expected[key], within) for key in found)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(
            alike(one, other, within) for one, other in zip(found, expected, strict=True)
        )
    return bool(found == (pytest.approx(expected, abs=within) if isinstance(expected, float) else expected))
