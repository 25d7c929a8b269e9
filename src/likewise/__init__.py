"""Likewise: text classification by example."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from likewise.classifier import Classifier
    from likewise.errors import LikewiseError
    from likewise.model import Model
    from likewise.progress import LikewiseWarning
    from likewise.settings import Settings
    from likewise.types import Change, Example, Neighbour, Prediction, Revision

    __version__: str

# Each public name and where it lives. They are imported when first asked for, so that `Model` needs no scikit-learn
# and `import likewise` costs nothing.
_HOMES = {
    "Change": "types",
    "Classifier": "classifier",
    "Example": "types",
    "LikewiseError": "errors",
    "LikewiseWarning": "progress",
    "Model": "model",
    "Neighbour": "types",
    "Prediction": "types",
    "Revision": "types",
    "Settings": "settings",
}

__all__ = [
    "Change",
    "Classifier",
    "Example",
    "LikewiseError",
    "LikewiseWarning",
    "Model",
    "Neighbour",
    "Prediction",
    "Revision",
    "Settings",
    "__version__",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # takes longer than all else here

        return version("likewise")
    if name not in _HOMES:
        raise AttributeError(f"module 'likewise' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(f"likewise.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
