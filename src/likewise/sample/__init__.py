"""The bundled sample data: messages to a shop, one of nine topics each; see README.md beside this file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent


def load(part: Literal["train", "test"]) -> tuple[list[str], list[str]]:
    """Texts and their topics. Some topics of the train part are wrong on purpose; mistakes.jsonl lists them."""
    rows = [json.loads(line) for line in (FOLDER / f"{part}.jsonl").read_text(encoding="utf-8").splitlines()]
    return [row["text"] for row in rows], [row["label"] for row in rows]
