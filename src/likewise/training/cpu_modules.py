"""Dropout and word embeddings as a CPU likes them: they compute what torch's own do, with less work a step.

torch draws a dropout's mask number by number from a slow generator, an eighth of a step's time. And the gradient of
word embeddings is a new table of zeros a step, as long as the vocabulary, of which a batch touches a few hundred rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import embedding

LEVELS = 2**16
"""A mask is drawn in so many levels: its share is exact to half of one."""


@contextmanager
def cpu_modules(network: nn.Module) -> Iterator[None]:
    """Put these in the place of the network's own inside this block; weights and their names stay the same."""
    places = [(parent, name, child) for parent in network.modules() for name, child in parent.named_children()]
    made = {child: new for _, _, child in places if (new := _replacement(child)) is not None}
    for parent, name, child in places:
        if child in made:
            setattr(parent, name, made[child].train(child.training))
    try:
        yield
    finally:
        for parent, name, child in places:
            if child in made:
                setattr(parent, name, child.train(made[child].training))


def _replacement(module: nn.Module) -> nn.Module | None:
    if type(module) is nn.Dropout and not module.inplace:
        return QuickDropout(module.p)
    if type(module) is nn.Embedding:
        unusual = module.sparse or module.scale_grad_by_freq or module.max_norm is not None
        return None if unusual else RowsEmbedding(module)
    return None


class QuickDropout(nn.Dropout):
    """Hides a share `p` of the values and scales the others by 1 / (1 - p), while it trains.

    The mask is numpy's, seeded by a number from torch's generator: so it follows from torch's seed alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        """The values (any shape), some of them 0."""
        if not self.training or not 0 < self.p < 1:
            return super().forward(input)
        seed = int(torch.randint(2**62, ()))
        drawn = np.random.Generator(np.random.SFC64(seed)).integers(LEVELS, size=input.shape, dtype=np.uint16)
        kept = torch.from_numpy(drawn >= np.uint16(round(self.p * LEVELS)))
        return input * kept.to(input.dtype).mul_(1 / (1 - self.p))


class RowsEmbedding(nn.Embedding):
    """Word embeddings whose gradient is one table for all steps, of which each clears the rows that the last touched.

    It shares the weights of the embedding that it is made of.
    """

    def __init__(self, given: nn.Embedding) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = given.num_embeddings, given.embedding_dim
        self.padding_idx, self.max_norm, self.norm_type = given.padding_idx, given.max_norm, given.norm_type
        self.scale_grad_by_freq, self.sparse = given.scale_grad_by_freq, given.sparse
        self.weight = given.weight
        self._table: Tensor | None = None
        self._touched: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        """Embeddings of ids: one more dimension than these."""
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return embedding(input, self.weight)
        found: Tensor = _Rows.apply(self.weight, input, self)  # type: ignore[no-untyped-call]
        return found

    def gather(self, ids: Tensor, gradient: Tensor) -> None:
        """Add the gradient (ids, d) of some rows to the weights' own."""
        if self.padding_idx is not None:
            gradient = gradient * (ids != self.padding_idx)[:, None]
        if self._table is None:
            self._table = torch.zeros_like(self.weight)
        if self.weight.grad is None:  # a new step: the trainer has taken the last gradient away
            for rows in self._touched:
                self._table[rows] = 0
            self._touched = []
            self.weight.grad = self._table
        if self.weight.grad is self._table:
            self._touched.append(ids)
        self.weight.grad.index_add_(0, ids, gradient.to(self.weight.grad.dtype))


class _Rows(torch.autograd.Function):
    """Look rows up; their gradient goes to the embedding by hand, which keeps its table."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, owner: RowsEmbedding) -> Tensor:
        ctx.ids, ctx.owner = ids, owner
        return embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None, None]:
        ctx.owner.gather(ctx.ids.reshape(-1), gradients[0].reshape(-1, gradients[0].shape[-1]))
        return None, None, None
