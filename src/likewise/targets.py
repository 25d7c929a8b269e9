"""The forms in which scikit-learn's users give labels, and the way from them to label sets and back.

A model knows label sets of strings. Users come with one label a text (of whatever type), with label sets, or with an
indicator matrix, and want their answers in the same form.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from likewise.errors import LabelError, SettingError, suggestion
from likewise.validation import check_labels


@dataclass(frozen=True)
class Kind:
    """What the user's labels are, and how they are spelled in the model, whose labels are strings."""

    type: type[str] | type[int] | type[float] | type[bool]
    dtype: np.dtype[Any]

    @property
    def plural(self) -> str:
        """In words."""
        return {str: "strings", int: "whole numbers", float: "numbers", bool: "truth values"}[self.type]

    def name(self, value: Any) -> str:
        """The model's spelling; the same for 3 and numpy's 3."""
        return str(self.type(value))

    def value(self, name: str) -> str | int | float | bool:
        """The label spelled so; LabelError for one that came from elsewhere and is none of this kind."""
        try:
            value = {"False": False, "True": True}[name] if self.type is bool else self.type(name)
        except (KeyError, ValueError):
            value = None
        if value is None or self.name(value) != name:  # 7 is spelled "7", and "007" is another label
            raise LabelError(
                f"the model has the label {name!r}, y had {self.plural} at fit; rename the label, or fit with strings"
            )
        return value

    def values(self, names: Iterable[str]) -> NDArray[Any]:
        """The labels spelled so, as an array of y's type, or of a wider one where a label taught later needs it."""
        values = [self.value(name) for name in names]
        try:
            return np.array(values, dtype=self.dtype)
        except OverflowError:
            return np.array(values)


@dataclass(frozen=True)
class Shape:
    """The form in which y came and answers go; `columns` and `dtype` are an indicator matrix's.

    `at_fit` is with how many columns it came; those that followed stand behind them.
    """

    form: Literal["labels", "sets", "indicator"]
    kind: Kind
    columns: tuple[str, ...] = ()
    dtype: np.dtype[Any] | None = None
    at_fit: int = 0

    def joined(self, other: Shape) -> Shape:
        """This shape after labels of the other's came in; LabelError when their labels are of another kind."""
        if other.kind.type is not self.kind.type:
            hint = "; name its columns with classes" if other.form == "indicator" else ""
            raise LabelError(f"y: found {other.kind.plural}, expected {self.kind.plural} as at fit{hint}")
        kind = self.kind
        if kind.type is not str:
            kind = replace(kind, dtype=_joint(kind.dtype, other.kind.dtype))
        new = other.columns if self.form == "indicator" else ()
        return replace(self, kind=kind, columns=(*self.columns, *(name for name in new if name not in self.columns)))


def _joint(one: np.dtype[Any], other: np.dtype[Any]) -> np.dtype[Any]:
    """A type for the labels of both; whole numbers stay whole, where NumPy would go over to floats."""
    joint = np.result_type(one, other)
    return np.dtype(np.int64) if joint.kind == "f" and {one.kind, other.kind} <= {"i", "u"} else joint


def read_targets(y: Any, classes: ArrayLike | None, at_fit: int | None = None) -> tuple[Shape, list[tuple[str, ...]]]:
    """The form of y, and the label set of each text as the model spells it.

    `classes` names the columns of an indicator matrix (None: a DataFrame's own names, else their numbers from 0) and
    is ignored with other forms. With `at_fit`, `classes` are those known by now, of which the fit brought so many:
    a matrix has as many columns, or all. LabelError for labels that are none, SettingError for unfit `classes`.
    """
    if hasattr(y, "toarray"):
        y = y.toarray()
    if classes is None and hasattr(y, "columns"):
        classes = list(y.columns)
    dtype = None
    if isinstance(y, list | tuple):
        items = list(y)
    else:
        array = np.asarray(y)
        if array.ndim not in (1, 2):
            raise LabelError(f"y: found {type(y).__name__}, expected a list or array with one entry for each text")
        items, dtype = (list(array) if array.ndim == 2 else array.tolist()), array.dtype
    if not any(isinstance(item, list | tuple | set | frozenset | np.ndarray) for item in items):
        return _one_each(items, dtype)
    if not all(map(_is_numeric, items)):
        return Shape("sets", _strings(dtype)), [check_labels(item, None, f"y[{i}]") for i, item in enumerate(items)]
    if len(widths := sorted({len(row) for row in items})) > 1:
        raise LabelError(f"y: found rows of {widths[0]} and of {widths[-1]} numbers, expected equally long ones")
    matrix = np.array(items, dtype=dtype)
    return _one_each(matrix[:, 0].tolist(), matrix.dtype) if widths == [1] else _columns(matrix, classes, at_fit)


def check_among(sets: Sequence[tuple[str, ...]], shape: Shape, classes: ArrayLike | None) -> None:
    """LabelError for a label that the caller's `classes` do not name."""
    if classes is None or shape.form == "indicator":
        return
    known = {shape.kind.name(label) for label in np.asarray(classes).tolist()}
    for i, row in enumerate(sets):
        for label in row:
            if label not in known:
                raise LabelError(f"y[{i}]: found {label!r}, expected one of classes{suggestion(label, known)}")


def _one_each(items: list[Any], dtype: np.dtype[Any] | None) -> tuple[Shape, list[tuple[str, ...]]]:
    kind = _kind(items, dtype, "y")
    return Shape("labels", kind), [(kind.name(item),) for item in items]


def _columns(
    matrix: NDArray[Any], classes: ArrayLike | None, at_fit: int | None
) -> tuple[Shape, list[tuple[str, ...]]]:
    if not np.isin(matrix, (0, 1)).all():
        odd = matrix[~np.isin(matrix, (0, 1))][0]
        raise LabelError(f"y: found {odd} in a matrix, expected an indicator matrix of 0 and 1")
    labels = np.arange(matrix.shape[1]).tolist() if classes is None else np.asarray(classes).tolist()
    if at_fit is not None and matrix.shape[1] != len(labels):
        if matrix.shape[1] != at_fit:
            more = "" if at_fit == len(labels) else f", or {len(labels)} with what came later"
            raise LabelError(
                f"y: found {matrix.shape[1]} columns, expected {at_fit} as at fit{more}; give one for each"
            )
        labels = labels[:at_fit]
    if not isinstance(labels, list) or len(labels) != matrix.shape[1]:
        found = len(labels) if isinstance(labels, list) else repr(labels)
        raise SettingError(f"classes: found {found}, expected a name for each of y's {matrix.shape[1]} columns")
    kind = _kind(labels, None if classes is None else np.asarray(classes).dtype, "classes")
    names = tuple(check_labels(kind.name(label), None, f"classes[{i}]")[0] for i, label in enumerate(labels))
    if len(set(names)) < len(names):
        raise SettingError("classes: found a name twice, expected one of its own for each column")
    sets = [tuple(names[i] for i in np.flatnonzero(row)) for row in matrix]
    return Shape("indicator", kind, names, matrix.dtype, len(names)), sets


def _kind(items: Sequence[Any], dtype: np.dtype[Any] | None, where: str) -> Kind:
    if all(isinstance(item, str) for item in items):
        return _strings(dtype)
    mixed = any(isinstance(item, str) for item in items)
    for i, item in enumerate(items):
        missing = item is None or (isinstance(item, float) and item != item)
        if missing or (mixed and not isinstance(item, str)):
            check_labels(item, None, f"{where}[{i}]")  # refuses it, in the words that a file would get
    array = np.asarray(items, dtype=dtype if dtype is not None and dtype.kind in "biuf" else None)
    if array.dtype.kind == "f" and not (np.isfinite(array) & (array == np.round(array))).all():
        raise LabelError(f"{where}: found continuous numbers, expected labels: strings, whole numbers or truth values")
    kinds: dict[str, type[int] | type[float] | type[bool]] = {"i": int, "u": int, "f": float, "b": bool}
    if array.ndim != 1 or array.dtype.kind not in kinds:
        raise LabelError(f"{where}: Unknown label type: {type(items[0]).__name__}; expected strings or whole numbers")
    return Kind(kinds[array.dtype.kind], array.dtype)


def _strings(dtype: np.dtype[Any] | None) -> Kind:
    return Kind(str, np.dtype(object) if dtype is not None and dtype.kind == "O" else np.dtype(str))


def _is_numeric(row: Any) -> bool:
    if isinstance(row, np.ndarray) and row.dtype != object:
        return row.dtype.kind in "biuf" and row.size > 0
    several = isinstance(row, list | tuple | np.ndarray) and len(row) > 0
    return several and all(isinstance(item, numbers.Number | np.bool_) for item in row)
