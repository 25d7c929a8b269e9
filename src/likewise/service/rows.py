"""Records as they stand in JSON."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from likewise.types import Change, Example, ExampleVersion


def example_row(example: Example) -> dict[str, Any]:
    return {**asdict(example), "labels": list(example.labels)}


def changed_row(change: Change) -> dict[str, Any]:
    return {"ids": list(change.ids), "revision": change.revision, "updated": change.updated}


def version_row(version: ExampleVersion) -> dict[str, Any]:
    """The change, and what it made of the example."""
    labels = None if version.labels is None else list(version.labels)
    return {
        **asdict(version.change),
        "text": version.text,
        "labels": labels,
        "ref": version.ref,
        "source": version.source,
    }
