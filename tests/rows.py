"""Labelled texts that the tiny encoder tells apart, for tests that need a model and not its quality."""

from __future__ import annotations

from typing import Any

import pytest

ROWS = [
    (f"{what} {which}", topic)
    for topic, subjects in (("delivery", ("parcel ship", "street")), ("invoice", ("bank money", "bill")))
    for what in subjects
    for which in ("late", "lost", "again", "today", "old", "new", "first", "last", "good", "bad")
]


def alike(found: Any, expected: Any) -> bool:
    """Whether predictions as JSON are equal, but for `stale` and for what the order of equal changes does to sums."""
    if isinstance(found, dict) and isinstance(expected, dict):
        names = [name for name in {**found, **expected} if name != "stale"]
        return all(name in found and name in expected and alike(found[name], expected[name]) for name in names)
    if isinstance(found, list) and isinstance(expected, list):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return bool(found == (pytest.approx(expected, abs=1e-8) if isinstance(expected, float) else expected))
