"""Every setting, once: name, type, default, choices, bounds, unit, help and scope.

The fields of `Settings` are the table. What a command line, the environment or a page of documentation needs
of a field is in `SETTINGS`, which is read off those fields; there is no second list.

A value comes from what was given, else from the environment variable `LIKEWISE_<NAME>`, else from the default.
"""

from __future__ import annotations

import difflib
import os
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import Any, Literal, cast

from likewise.errors import SettingError, suggestion
from likewise.setting import FEATURE, PREFIX, Scope, Setting, Value, row
from likewise.types import Batches, Pooling, PrecisionChoice, Projection, Runtime, SharedLabels, SiamesePairs, Storage

Measure = Literal["macro_f1", "accuracy", "micro_f1", "hamming_loss"]
"""What tuning optimises (hamming_loss: the lower the better)."""

Objective = Literal["in-batch", "pairs", "contrastive", "triplet"]
"""What aligns the embeddings of a class."""

Log = Literal["requests", "texts", "none"]
"""What the service writes of each request: a line without its texts, one with them, or nothing."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings with their values; immutable, checked on construction (SettingError)."""

    seed: int = row(
        0,
        scope="fit",
        minimum=0,
        maximum=2**32 - 1,
        help="where every random choice of a fit begins; the same seed gives the same model",
    )
    epochs: int | None = row(
        None,
        scope="fit",
        unit="passes over the examples",
        minimum=1,
        help="how long the encoder is trained at most; unset: what the recipe says",
    )
    batch_size: int | None = row(
        None,
        scope="fit",
        unit="texts",
        minimum=2,
        help="how many texts are encoded together in training; unset: what the recipe says",
    )
    learning_rate: float | None = row(
        None,
        scope="fit",
        minimum=0,
        maximum=1,
        exclusive=True,
        help="the encoder's largest learning rate, reached after the warm-up; unset: what the recipe says",
    )
    max_tokens: int = row(
        128,
        scope="fit",
        unit="tokens",
        minimum=3,
        help="the longest text that the encoder sees, capped by the encoder's own limit; the rest is cut off",
    )
    objective: Objective | None = row(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="what aligns embeddings: all pairs of a batch, pairs drawn one by one (CEA's Algorithm 1; encodes four "
        "times as many texts), the contrastive loss of such pairs, or triplets; unset: what the recipe says",
    )
    contrastive_temperature: float | None = row(
        None,
        scope="fit",
        minimum=0,
        exclusive=True,
        help="how much a contrastive objective looks at the texts that are hardest to tell apart: the lower the more; "
        "unset: what the recipe says",
    )
    projection: Projection | None = row(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="what a contrastive objective compares: the embeddings, or 64 dimensions that one layer or two make of "
        "them while training; unset: what the recipe says",
    )
    preservation: float | None = row(
        None,
        scope="fit",
        minimum=0,
        help="how much a contrastive objective holds embeddings where they were (weight of the mean squared "
        "difference); unset: what the recipe says",
    )
    batches: Batches | None = row(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="how texts come together for a contrastive objective: each with another of its class, as many of each "
        "class drawn, or classes by their share; unset: what the recipe says",
    )
    per_class: int | None = row(
        None,
        scope="fit",
        unit="texts",
        minimum=2,
        help="how many of each class drawn a batch has where batches are m-per-class; unset: what the recipe says",
    )
    gamma: float | None = row(
        None,
        scope="fit",
        minimum=0,
        help="weight of multi-label contrast against binary cross-entropy (a sum over the batch, as its paper has it); "
        "unset: what the recipe says",
    )
    shared_labels: SharedLabels | None = row(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="how alike texts are to multi-label contrast: by how many labels they share, or fully if they share any; "
        "unset: what the recipe says",
    )
    siamese_pairs: SiamesePairs | None = row(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="which pairs a Siamese network compares, of copies of the texts that bear one label each: any two, or two "
        "of different texts; unset: what the recipe says",
    )
    pooling: Pooling | None = row(  # noqa: RUF009 (a field, like the others)
        None,
        scope="fit",
        help="how tokens become an embedding: their mean, the first (cls), the last, the one that sums up in this "
        "kind of encoder (summary), or the encoder's own way (auto); unset: what the recipe says",
    )
    measure: Measure | None = row(  # noqa: RUF009 (a field, like the others)
        None, scope="fit", help="what tuning optimises on held-out examples; unset: what the recipe says"
    )
    holdout: float = row(
        0.1,
        scope="fit",
        unit="share of the examples",
        minimum=0,
        maximum=1,
        exclusive=True,
        help="how many examples are held out for tuning where no file for it is given",
    )
    precision: PrecisionChoice = row(  # noqa: RUF009 (a field, like the others)
        "fp32",
        scope="fit",
        help="what the encoder calculates in; bf16: about twice as fast where the processor multiplies bfloat16 "
        "(OpenVINO), and probabilities move by up to about 0.01 where a machine calculates in fp32 instead; int8: its "
        "linear layers in whole numbers of eight bits (ONNX Runtime), about twice as fast on most processors; auto: "
        "bf16, or int8 where that cannot be had, if it costs less than 0.002 of the measure on held-out rows",
    )
    storage: Storage = row(  # noqa: RUF009 (a field, like the others)
        "float32",
        scope="fit",
        help="how the datastore keeps embeddings; float16 takes half the space and rounds them to about three digits",
    )
    neighbours: int = row(
        5,
        scope="answer",
        unit="examples",
        minimum=0,
        help="how many examples a prediction cites at most; the vote itself uses the tuned k",
    )
    threads: int = row(
        0,
        scope="answer",
        unit="threads",
        minimum=0,
        maximum=1024,  # ONNX Runtime has room for so many wherever it runs; for billions it ends in bad_alloc
        help="how many threads the encoder uses; 0: as many as cores",
    )
    token_budget: int | None = row(
        None,
        scope="answer",
        unit="padded tokens",
        minimum=1,
        help="how much the encoder reads in one batch; unset: what is fastest in the model's precision",
    )
    runtime: Runtime = row(  # noqa: RUF009 (a field, like the others)
        "auto", scope="answer", help="what runs the encoder; auto: the one that has the model's precision"
    )
    lock_timeout: float = row(
        10.0,
        scope="answer",
        unit="seconds",
        minimum=0,
        maximum=86_400,  # databases and Python count timeouts in numbers that end
        help="how long a change waits for another process that is writing",
    )
    max_text: int = row(
        1_000_000, scope="answer", unit="characters", minimum=1, help="the longest text that is accepted at all"
    )

    # Named http_* because a container platform sets LIKEWISE_PORT and LIKEWISE_SERVICE_PORT of its own accord.
    http_host: str = row(
        "127.0.0.1",
        scope="serve",
        help="the address to listen on; without tokens only a loopback one, unless --no-auth",
    )
    http_port: int = row(
        8000, scope="serve", minimum=0, maximum=65535, help="the port to listen on; 0: one that is free"
    )
    http_workers: int = row(
        1,
        scope="serve",
        unit="processes",
        minimum=1,
        help="how many processes answer; they share the cores, unless threads says otherwise",
    )
    http_allow_hosts: str | None = row(
        None,
        scope="serve",
        help="names by which the service is called, separated by commas, besides localhost and IP addresses",
    )
    http_allow_origins: str | None = row(
        None,
        scope="serve",
        help="origins such as https://tool.example.org, separated by commas, whose pages may use the service (CORS)",
    )
    http_max_body: int = row(
        1_048_576, scope="serve", unit="bytes", minimum=1, help="the longest body of a request that is read"
    )
    http_max_texts: int = row(
        256, scope="serve", unit="texts", minimum=1, help="how many texts a request may hold at most"
    )
    http_timeout: float = row(
        30.0,
        scope="serve",
        unit="seconds",
        minimum=0,
        exclusive=True,
        help="how long a request may take; a change that has begun is finished and answered all the same",
    )
    http_batch_wait: float = row(
        2.0,
        scope="serve",
        unit="milliseconds",
        minimum=0,
        help="how long a request waits at most for others to be encoded with",
    )
    http_batch_texts: int = row(
        32, scope="serve", unit="texts", minimum=1, help="with how many texts a batch waits for no others"
    )
    http_queue: int = row(
        1024,
        scope="serve",
        unit="texts",
        minimum=1,
        help="how many texts may wait in a process; requests beyond are refused, to be tried again",
    )
    http_grace: float = row(
        30.0, scope="serve", unit="seconds", minimum=0, help="how long a stop waits for requests under way"
    )
    http_log: Log = row(  # noqa: RUF009 (a field, like the others)
        "requests",
        scope="serve",
        help="what is written of each request on standard error: a line of JSON without texts, one with them (texts), "
        "or nothing (none)",
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

    def of(self, scope: Scope) -> dict[str, Any]:
        """Those of one scope, by name."""
        return {setting.name: getattr(self, setting.name) for setting in settings_of(scope)}

    def encoding(self) -> dict[str, Any]:
        """Those that an encoder is opened with."""
        return {"threads": self.threads, "token_budget": self.token_budget, "runtime": self.runtime}


def check_scopes(given: Iterable[str], *scopes: Scope) -> None:
    """SettingError for a setting, among the names given, that none of these scopes would read."""
    for name in given:
        if name in SETTINGS and SETTINGS[name].scope not in scopes:
            read = [setting.name for setting in SETTINGS.values() if setting.scope in scopes]
            raise SettingError(f"{name}: nothing would read it here; expected one of {', '.join(read)}")


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
        if not variable.startswith(PREFIX) or variable in known:
            continue
        close = difflib.get_close_matches(variable.removeprefix(PREFIX).lower(), names, n=1, cutoff=0.85)
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
            **item.metadata[FEATURE],
        )
    return table


SETTINGS: dict[str, Setting] = _table()
"""The table, by name, in the order in which a page of documentation lists it."""
