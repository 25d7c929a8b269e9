"""What all contestants that classify texts have in common: how they are measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def rows_of(data: str, part: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a part of a file that `measuring.write_rows` wrote."""
    found = json.loads(Path(data).read_text(encoding="utf-8"))[part]
    return found["texts"], found["labels"]


class Answering:
    """A contestant answers texts with labels, as its own users would ask it to."""

    def __init__(self, name: str) -> None:
        self.name = name

    def answer(self, texts: Sequence[str]) -> list[str]:
        """A label a text."""
        raise AssertionError(f"{self.name} does not answer")

    def answer_one(self, text: str) -> str:
        """The label of one text."""
        return self.answer([text])[0]

    def bulk(self, data: str, part: str = "test") -> dict[str, Any]:
        """All texts of a part at once: seconds and labels."""
        texts, _ = rows_of(data, part)
        seconds, labels = timed(lambda: self.answer(texts))
        return {"seconds": seconds, "labels": [str(label) for label in labels]}

    def singles(self, data: str, count: int, part: str = "test") -> dict[str, Any]:
        """The first texts of a part one by one: the seconds of each."""
        texts, _ = rows_of(data, part)
        each = [timed(lambda text=text: self.answer_one(text)) for text in texts[:count]]
        return {"seconds": [seconds for seconds, _ in each], "labels": [str(label) for _, label in each]}
