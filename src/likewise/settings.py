"""Every setting, once: name, type, default, choices, bounds, unit, help and scope.

The fields of `Settings` are the table. What a command line, the environment or a page of documentation needs
of a field is in `SETTINGS`, which is read off those fields; there is no second list.

A value comes from what was given, else from the environment variable `LIKEWISE_<NAME>`, else from the default.
"""

from __future__ import annotations

import difflib
import math
import numbers
import os
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, cast

from likewise.errors import SettingError, suggestion
from likewise.types import Batches, Pooling, Projection, SharedLabels, SiamesePairs, Storage

Scope = Literal["fit", "answer"]
"""Which commands show the flag: those that fit, or those that answer."""

Measure = Literal["macro_f1", "accuracy", "micro_f1", "hamming_loss"]
"""What tuning optimises (hamming_loss: the lower the better)."""

Objective = Literal["in-batch", "pairs", "contrastive", "triplet"]
"""What aligns the embeddings of a class."""

Runtime = Literal["auto", "onnxruntime", "openvino"]
"""What runs the encoder."""

Value = int | float | str | None
"""What a setting can hold."""

T = TypeVar("T")

_PREFIX = "LIKEWISE_"
_FEATURE = "likewise.setting"


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
        return _PREFIX + self.name.upper()

    @property
    def flag(self) -> str:
        """The command line's option, such as `--batch-size`."""
        return "--" + self.name.replace("_", "-")

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


def _setting(
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
    row = {
        "scope": scope,
        "help": help,
        "unit": unit,
        "minimum": minimum,
        "maximum": maximum,
        "exclusive": exclusive,
    }
    return field(default=default, metadata={_FEATURE: row})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings with their values; immutable, checked on construction (SettingError)."""

    seed: int = _setting(
        0,
        scope="fit",
        minimum=0,
        maximum=2**32 - 1,
        help="where every random choice of a fit begins; the same seed gives the same model",
    )
    epochs: int | None = _setting(
        None,
        scope="fit",
        unit="passes over the examples",
        minimum=1,
        help="how long the encoder is trained at most; unset: what the recipe says",
    )
    batch_size: int | None = _setting(
        None,
        scope="fit",
        unit="texts",
        minimum=2,
        help="how many texts are encoded together in training; unset: what the recipe says",
    )
    learning_rate: float | None = _setting(
        None,
        scope="fit",
        minimum=0,
        maximum=1,
        exclusive=True,
        help="the encoder's largest learning rate, reached after the warm-up; unset: what the recipe says",
    )
    max_tokens: int = _setting(
        128,
        scope="fit",
        unit="tokens",
        minimum=3,
        help="the longest text that the encoder sees, capped by the encoder's own limit; the rest is cut off",
    )
    objective: Objective | None = _setting(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="what aligns embeddings: all pairs of a batch, pairs drawn one by one (CEA's Algorithm 1; encodes four "
        "times as many texts), the contrastive loss of such pairs, or triplets; unset: what the recipe says",
    )
    contrastive_temperature: float | None = _setting(
        None,
        scope="fit",
        minimum=0,
        exclusive=True,
        help="how much a contrastive objective looks at the texts that are hardest to tell apart: the lower the more; "
        "unset: what the recipe says",
    )
    projection: Projection | None = _setting(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="what a contrastive objective compares: the embeddings, or 64 dimensions that one layer or two make of "
        "them while training; unset: what the recipe says",
    )
    preservation: float | None = _setting(
        None,
        scope="fit",
        minimum=0,
        help="how much a contrastive objective holds embeddings where they were (weight of the mean squared "
        "difference); unset: what the recipe says",
    )
    batches: Batches | None = _setting(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="how texts come together for a contrastive objective: each with another of its class, as many of each "
        "class drawn, or classes by their share; unset: what the recipe says",
    )
    per_class: int | None = _setting(
        None,
        scope="fit",
        unit="texts",
        minimum=2,
        help="how many of each class drawn a batch has where batches are m-per-class; unset: what the recipe says",
    )
    gamma: float | None = _setting(
        None,
        scope="fit",
        minimum=0,
        help="weight of multi-label contrast against binary cross-entropy (a sum over the batch, as its paper has it); "
        "unset: what the recipe says",
    )
    shared_labels: SharedLabels | None = _setting(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="how alike texts are to multi-label contrast: by how many labels they share, or fully if they share any; "
        "unset: what the recipe says",
    )
    siamese_pairs: SiamesePairs | None = _setting(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="which pairs a Siamese network compares, of copies of the texts that bear one label each: any two, or two "
        "of different texts; unset: what the recipe says",
    )
    pooling: Pooling | None = _setting(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="how tokens become an embedding: their mean, the first (cls), the last, the one that sums up in this "
        "kind of encoder (summary), or the encoder's own way (auto); unset: what the recipe says",
    )
    measure: Measure | None = _setting(  # noqa: RUF009 (a field, like the others)
        None, scope="fit", help="what tuning optimises on held-out examples; unset: what the recipe says"
    )
    holdout: float = _setting(
        0.1,
        scope="fit",
        unit="share of the examples",
        minimum=0,
        maximum=1,
        exclusive=True,
        help="how many examples are held out for tuning where no file for it is given",
    )
    storage: Storage = _setting(  # noqa: RUF009 (a field, like the others)
        "float32",
        scope="fit",
        help="how the datastore keeps embeddings; float16 takes half the space and rounds them to about three digits",
    )
    neighbours: int = _setting(
        5,
        scope="answer",
        unit="examples",
        minimum=0,
        help="how many examples a prediction cites at most; the vote itself uses the tuned k",
    )
    threads: int = _setting(
        0, scope="answer", unit="threads", minimum=0, help="how many threads the encoder uses; 0: as many as cores"
    )
    token_budget: int = _setting(
        512, scope="answer", unit="padded tokens", minimum=1, help="how much the encoder reads in one batch"
    )
    runtime: Runtime = _setting(  # noqa: RUF009 (a field, like the others)
        "auto", scope="answer", help="what runs the encoder; auto: the best one installed"
    )
    lock_timeout: float = _setting(
        10.0,
        scope="answer",
        unit="seconds",
        minimum=0,
        help="how long a change waits for another process that is writing",
    )
    max_text: int = _setting(
        1_000_000, scope="answer", unit="characters", minimum=1, help="the longest text that is accepted at all"
    )

    def __post_init__(self) -> None:
        for setting in SETTINGS.values():
            object.__setattr__(self, setting.name, setting.check(getattr(self, setting.name)))

    @classmethod
    def resolve(cls, **given: object) -> Settings:
        """The settings in force: what is given, else the environment's `LIKEWISE_<NAME>`, else the default.

        None means not given, an empty variable means not set. SettingError (with a suggestion) for a key or, where it
        is so close to a setting's that it can only be a slip, a variable that is unknown, and for a value of the wrong
        type or outside the allowed range.
        """
        for key in given:
            if key not in SETTINGS:
                hint = suggestion(key, SETTINGS) or f"; settings are {', '.join(SETTINGS)}"
                raise SettingError(f"unknown setting {key!r}{hint}")
        _refuse_slips()
        values: dict[str, Any] = {}
        for setting in SETTINGS.values():
            spelled = os.environ.get(setting.variable, "")
            if given.get(setting.name) is not None:
                values[setting.name] = setting.check(given[setting.name])
            elif spelled.strip():
                values[setting.name] = setting.parse(spelled, f"environment variable {setting.variable}")
        return cls(**values)

    def encoding(self) -> dict[str, Any]:
        """Those that an encoder is opened with."""
        return {"threads": self.threads, "token_budget": self.token_budget, "runtime": self.runtime}


def settings_of(scope: Scope) -> Iterator[Setting]:
    """The settings of one scope, in the table's order."""
    return (setting for setting in SETTINGS.values() if setting.scope == scope)


def _refuse_slips() -> None:
    """SettingError for an environment variable that misspells a setting.

    Not for every unknown `LIKEWISE_` variable: a container platform makes some of its own from a service's name
    (`LIKEWISE_PORT`, `LIKEWISE_SERVICE_HOST`), so only near misses are slips.
    """
    known = {setting.variable: setting for setting in SETTINGS.values()}
    names = [setting.name for setting in SETTINGS.values()]
    for variable in sorted(os.environ):
        if not variable.startswith(_PREFIX) or variable in known:
            continue
        close = difflib.get_close_matches(variable.removeprefix(_PREFIX).lower(), names, n=1, cutoff=0.85)
        if close:
            meant = SETTINGS[close[0]].variable
            raise SettingError(f"unknown environment variable {variable}; did you mean {meant}?")


def _table() -> dict[str, Setting]:
    """The rows, read off the fields of `Settings` and their annotations."""
    hints = typing.get_type_hints(Settings)
    table: dict[str, Setting] = {}
    for item in fields(Settings):
        hint, optional = hints[item.name], False
        if typing.get_origin(hint) in (UnionType, typing.Union):  # a Literal makes the one, other types the other
            hint = next(part for part in typing.get_args(hint) if part is not NoneType)
            optional = True
        choices: tuple[str, ...] = ()
        if typing.get_origin(hint) is Literal:
            choices, hint = typing.get_args(hint), str
        table[item.name] = Setting(
            name=item.name,
            default=cast(Value, item.default),
            type=hint,
            optional=optional,
            choices=choices,
            **item.metadata[_FEATURE],
        )
    return table


SETTINGS: dict[str, Setting] = _table()
"""The table, by name, in the order in which a page of documentation lists it."""
