"""The shapes of requests: what is wrong with a large one is told in few words."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from likewise.service.schemas import Classify, Merge, Predict, Relabel, Teach

MANY = 20_000


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        (Classify, {"texts": [1] * MANY}),
        (Classify, {"texts": [], **{str(key): 1 for key in range(MANY)}}),
        (Teach, {"examples": [{}] * MANY}),
        (Teach, {"examples": [{"text": "a", "labels": [1] * MANY}]}),
        (Relabel, {"labels": [1] * MANY}),
        (Merge, {"labels": [1] * MANY, "into": 1}),
        (Predict, {"inputs": [1] * MANY}),
        (Predict, {"inputs": [[]] * MANY}),
        (Predict, {"inputs": [[1] * MANY]}),
    ],
)
def test_of_many_mistakes_the_first_are_told(shape: type[BaseModel], body: Any) -> None:
    """Half a million errors took seconds, in which nobody else was answered."""
    with pytest.raises(ValidationError) as caught:
        shape.model_validate(body)
    assert caught.value.error_count() <= 2
