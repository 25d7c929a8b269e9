"""A row of the settings table: what can be said of a setting, and how a value of it is read and checked."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from likewise.errors import SettingError, suggestion

Scope = Literal["fit", "answer", "serve"]
"""Which commands show the flag: those that fit, those that answer, or the service."""

Value = int | float | str | None
"""What a setting can hold."""

T = TypeVar("T")

PREFIX = "LIKEWISE_"
FEATURE = "likewise.setting"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    `type` is int, float or str; `optional` says that None is a value too (the default of "what the recipe says").
    `choices` is empty unless only those are allowed. `minimum` and `maximum` belong to the allowed range unless
    `exclusive`. `unit` is empty for a number without one.
    """

    name: str
    default: Value
    type: type[int] | type[float] | type[str]
    optional: bool
    choices: tuple[str, ...]
    minimum: float | None
    maximum: float | None
    exclusive: bool
    unit: str
    help: str
    scope: Scope

    @property
    def variable(self) -> str:
        """The environment variable, such as `LIKEWISE_BATCH_SIZE`."""
        return PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line's option, such as `--batch-size`; `http_port` is `--port`."""
        return "--" + self.name.removeprefix("http_").replace("_", "-")

    @property
    def expected(self) -> str:
        """What is allowed, in words: `a whole number, at least 1 (rows)`."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words = {int: "a whole number", float: "a number", str: "a string"}[self.type]
        low, high = (None if bound is None else f"{bound:,.12g}" for bound in (self.minimum, self.maximum))
        if self.exclusive:
            words += f" above {low}" if low else ""
            words += f"{' and' if low else ''} below {high}" if high else ""
        elif low and high:
            words += f" from {low} to {high}"
        elif low:
            words += f", at least {low}"
        return words + (f" ({self.unit})" if self.unit else "")

    def parse(self, text: str, where: str | None = None) -> Value:
        """The value that `text` (an environment variable, a flag) spells; SettingError where it spells none."""
        value: Value
        try:
            value = self.type(text.strip())
        except ValueError:
            raise self._wrong(text, where) from None
        return self.check(value, where)

    def check(self, value: object, where: str | None = None) -> Value:
        """`value` as plain int, float, str or None; SettingError naming `where` unless type, range and choice fit.

        A whole number will do for a float; True and False are no numbers, and a string is no number here (`parse`
        reads strings). NaN and infinities are refused.
        """
        if value is None and self.optional:
            return None
        if isinstance(value, bool):
            raise self._wrong(value, where)
        checked: int | float
        if self.type is str and isinstance(value, str):
            if self.choices and value not in self.choices:
                raise self._wrong(value, where, suggestion(value, self.choices))
            return str(value)
        if self.type is int and isinstance(value, numbers.Integral):
            checked = int(value)
        elif self.type is float and isinstance(value, numbers.Real):
            checked = float(value)
        else:
            raise self._wrong(value, where)
        if not self._in_range(checked):
            raise self._wrong(value, where)
        return checked

    def _in_range(self, value: int | float) -> bool:
        if not math.isfinite(value):
            return False
        if self.exclusive:
            return (self.minimum is None or value > self.minimum) and (self.maximum is None or value < self.maximum)
        return (self.minimum is None or value >= self.minimum) and (self.maximum is None or value <= self.maximum)

    def _wrong(self, found: object, where: str | None, hint: str = "") -> SettingError:
        shown = repr(found)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return SettingError(f"{where or self.name}: found {shown}, expected {self.expected}{hint}")


def row(
    default: T,
    *,
    scope: Scope,
    help: str,
    unit: str = "",
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive: bool = False,
) -> T:
    """A dataclass field that carries the rest of its row; typed as the default, which is what the field holds."""
    told = {
        "scope": scope,
        "help": help,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "exclusive": exclusive,
    }
    return field(default=default, metadata={FEATURE: told})
