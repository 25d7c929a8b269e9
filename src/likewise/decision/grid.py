"""The settings that tuning chooses among, and by which rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """`dimensions` of whitening (None: the embedding itself), `ks`, `temperatures`, `lambdas`.

    Without `temperatures` a vote is as sharp as its examples need (`tuning.COPY_SHARES`). `jointly`: vote and lambda
    are chosen together, by what the blend scores and nothing else, as papers do; otherwise each voice by itself, and
    the usual setting where held-out rows cannot tell.
    """

    dimensions: tuple[int | None, ...] = (None, 8, 16, 32, 64, 128, 256)
    ks: tuple[int, ...] = (5, 10, 20, 40, 80, 160)
    temperatures: tuple[float, ...] = ()
    lambdas: tuple[float, ...] = tuple(float(share) for share in np.linspace(0.0, 1.0, 11))
    jointly: bool = False


OURS = Grid()
"""The recipes' own, where a paper has none."""
