"""The application as it is made: it reports to nobody, and mistakes of ours are told without their contents."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from likewise.model import Model
from likewise.service.app import make_app
from likewise.settings import Settings


def test_the_framework_reports_to_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTAPI_OTEL_AUTO_CONFIGURE", "true")
    app = make_app(path, Settings(), auth=False)
    assert not app._native_telemetry.enabled()
    assert app._telemetry["auto_configure"] is False


def test_a_mistake_of_ours_is_told_and_logged_without_what_was_asked(
    path: Path, serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(self: Model, *args: object, **more: object) -> None:
        raise RuntimeError("a secret bird")

    monkeypatch.setattr(Model, "teach", broken)
    logger = logging.getLogger("likewise.service")
    monkeypatch.setattr(logger, "propagate", True)
    logger.setLevel(logging.INFO)
    with serve(path, http_log="requests") as client:
        answer = client.post("/v1/examples", json={"examples": [{"text": "a secret bird", "labels": "x"}]})
        assert answer.status_code == 500
        assert answer.json()["error"]["type"] == "internal"
        assert client.get("/health").status_code == 200
    line = next(json.loads(record.getMessage()) for record in caplog.records if record.name == "likewise.service")
    assert line["error"].startswith("RuntimeError at ")
    assert "secret" not in answer.text and "secret" not in caplog.text
