"""How a long piece of work says where it stands.

Library code reports to a `Progress` and never prints. This one is silent but for warnings, which go the way of
Python's `warnings`; the command line passes one that draws.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_PACKAGE = str(Path(__file__).parent)


class LikewiseWarning(UserWarning):
    """Something is no error but will surprise: a class with one example, texts cut off, a skewed set."""


class Progress:
    """Receives what is going on. Subclass it to show it; every method may be called from the working thread only."""

    def stage(self, title: str) -> None:
        """A new stage begins ("Training the encoder"); the one before is over."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """`done` of `total` steps of the present stage are behind us; `note` is short ("loss 0.412")."""

    def tell(self, message: str) -> None:
        """Something worth one line, such as the task that was chosen."""

    def warn(self, message: str) -> None:
        """Something that deserves attention: a `LikewiseWarning`, placed at the caller's own line."""
        warnings.warn(message, LikewiseWarning, stacklevel=_outside())

    def done(self) -> None:
        """The work is over, well or badly."""


def _outside() -> int:
    """The stack level, as `warn` counts it, of the first caller outside this package."""
    level = 1
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
        level += 1
    return level
