"""A batch whose texts are of mixed lengths, encoded in parts of texts of about the same: padding is work, too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

PART = 32
"""Texts in a part. Smaller ones save more padding, but each costs a cast of all weights and of their gradients."""
MADE = ("sentence_embedding", "logits")
"""What a model makes of a text that does not depend on the others of its batch."""


def in_one(model: nn.Module, features: dict[str, Tensor]) -> dict[str, Any]:
    """What the model makes of a batch; the features stay what they are, though its modules write into what they get."""
    made: dict[str, Any] = model(dict(features))
    return made


def in_parts(model: nn.Module, features: dict[str, Tensor]) -> dict[str, Any]:
    """What the model makes of a batch, the same as from one pass, but for its dropout's luck and rounding.

    A batch without an attention mask, and one that is no larger than a part, pass as they are.
    """
    mask = features.get("attention_mask")
    if mask is None or len(mask) <= PART:
        return in_one(model, features)
    order = mask.sum(dim=1).argsort(stable=True)
    found = [model(part) for part in _parts(features, mask, order)]
    back = order.argsort()
    return {name: torch.cat([part[name] for part in found])[back] for name in MADE if name in found[0]}


def _parts(features: dict[str, Tensor], mask: Tensor, order: Tensor) -> Iterator[dict[str, Tensor]]:
    for rows in torch.split(order, PART):
        used = mask[rows].any(dim=0).nonzero()
        start, end = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
        yield {name: _cut(value, mask, rows, start, end) for name, value in features.items()}


def _cut(value: Any, mask: Tensor, rows: Tensor, start: int, end: int) -> Any:
    """Some rows of a feature, without the columns of padding that they share."""
    if not isinstance(value, Tensor) or value.ndim == 0 or len(value) != len(mask):
        return value
    return value[rows, start:end] if value.shape == mask.shape else value[rows]
