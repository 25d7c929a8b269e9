"""The shapes of requests and answers, as the OpenAPI document tells them.

What a text and a label must be is for `likewise.validation` to decide; here stands what a client can be told of it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from likewise.errors import suggestion
from likewise.types import OnConflict
from likewise.validation import LONGEST_LABEL, LONGEST_REF

GREATEST = 2**53 - 1
"""The greatest id or revision: what every reader of JSON can hold exactly."""


def _whole(value: object) -> object:
    """JSON has one kind of number: 2.0 is a whole one."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


# Of what may be one thing or another, which it is: so that a failure is told of that one alone.
_TEXT, _NUMBER, _LIST, _BATCH = KINDS = ("(text)", "(number)", "(list)", "(batch)")


def _text_or_list(value: object) -> str:
    return _LIST if isinstance(value, list) else _TEXT


def _text_or_number(value: object) -> str:
    return _TEXT if isinstance(value, str) else _NUMBER


def _text_list_or_batch(value: object) -> str:
    return _BATCH if isinstance(value, list) and (not value or isinstance(value[0], list)) else _text_or_list(value)


_FILLED = {"pattern": r"^[^\x00]*[^\s\x00][^\x00]*$"}

Text = Annotated[str, Field(min_length=1, json_schema_extra=_FILLED)]
Label = Annotated[str, Field(min_length=1, max_length=LONGEST_LABEL, json_schema_extra=_FILLED)]
Ref = Annotated[str, Field(min_length=1, max_length=LONGEST_REF, json_schema_extra=_FILLED)]
Number = Annotated[int, Field(ge=0, le=GREATEST), BeforeValidator(_whole)]
ExampleId = Annotated[int, Field(ge=1, le=GREATEST)]
Note = Annotated[str, Field(max_length=10_000, pattern=r"^[^\x00]*$")]
Moment = Annotated[str, Field(max_length=100, json_schema_extra={"format": "date-time"})]
When = Annotated[
    Annotated[Number, Tag(_NUMBER)] | Annotated[Moment, Tag(_TEXT)],
    Discriminator(_text_or_number),
    Field(description="A revision, or a time in ISO 8601 (UTC unless it says otherwise)."),
]
# A list is read up to its first mistake: half a million of them would be told of together, and hold up everybody.
Labels = Annotated[
    Annotated[Label, Tag(_TEXT)] | Annotated[list[Label], Field(fail_fast=True), Tag(_LIST)],
    Discriminator(_text_or_list),
    Field(description="The label, or a list of them: exactly one where the model's task is single."),
]


class Request(BaseModel):
    """What a client sends: no key that is unknown, no value of another type."""

    model_config = ConfigDict(extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        """Refuse the first key that is unknown; left to pydantic, each of a hundred thousand would be told of."""
        for key in value if isinstance(value, dict) else ():
            if key not in cls.model_fields:
                hint = suggestion(key[:100], cls.model_fields) or f"; known are {', '.join(cls.model_fields)}"
                raise ValueError(f"found the unknown key {key[:100]!a}{hint}")
        return value


class Classify(Request):
    texts: list[Text] = Field(fail_fast=True, description="The texts; their predictions come in the same order.")
    neighbours: Annotated[int, Field(ge=0, le=1000), BeforeValidator(_whole)] | None = Field(
        None, description="How many examples each prediction cites at most."
    )
    as_of: When | None = Field(None, description="Answer from the examples as they stood at a revision, or at a time.")


class NewExample(Request):
    text: Text
    labels: Labels
    ref: Ref | None = Field(None, description="Your own reference; one that is there updates its example.")


class Teach(Request):
    examples: list[NewExample] = Field(fail_fast=True, min_length=1)
    on_conflict: OnConflict | None = Field(
        None,
        description="A text that is there: keep its labels, replace them, or have both. Unless told: both if the "
        "labels differ.",
    )
    note: Note | None = Field(None, description="Why; recorded with the change.")


class Relabel(Request):
    labels: Labels
    note: Note | None = None


class Revert(Request):
    revision: When
    note: Note | None = None


class Rename(Request):
    old: Label
    new: Label
    note: Note | None = None


class Merge(Request):
    labels: list[Label] = Field(fail_fast=True, min_length=1, description="The labels that go.")
    into: Label = Field(description="The label that takes their place, new or there already.")
    note: Note | None = None


# Answers


class Score(BaseModel):
    label: str
    score: float


class CitedExample(BaseModel):
    id: int
    text: str
    labels: list[str]
    distance: float
    weight: float


class Prediction(BaseModel):
    """`label` and `score` with one label a text; with several, `labels`, those over their thresholds."""

    text: str
    label: str | None = None
    score: float | None = None
    labels: list[str] | None = None
    scores: list[Score]
    head: list[Score]
    neighbours: list[CitedExample]
    lambda_: float = Field(alias="lambda")
    revision: int
    stale: bool = False


class Taught(BaseModel):
    """`ids` in the order of the examples; how many are new, changed, known already, or left as they were."""

    ids: list[int]
    revision: int
    added: int
    updated: int
    known: int
    kept: int


class Changed(BaseModel):
    """The examples concerned, the revision after the change, and how many the change altered."""

    ids: list[int]
    revision: int
    updated: int


class Forgotten(BaseModel):
    """`shared`, after an erasure: other examples that have, or once had, the same text, and keep it."""

    ids: list[int]
    revision: int
    shared: list[int] | None = None


class Example(BaseModel):
    """`revision` is the change that gave it its present text and labels."""

    id: int
    text: str
    labels: list[str]
    ref: str | None
    source: str | None
    revision: int


class Examples(BaseModel):
    """A page; `next` is the cursor of the one that follows, null on the last."""

    examples: list[Example]
    next: str | None


class Version(BaseModel):
    """What one change made of an example: labels null where it was forgotten, text too where it was erased."""

    revision: int
    at: str
    action: str
    by: str | None
    note: str | None
    examples: int
    text: str | None
    labels: list[str] | None
    ref: str | None
    source: str | None


class ExampleLife(BaseModel):
    """An example as it stands, and what each change made of it, newest first."""

    id: int
    text: str | None
    labels: list[str] | None
    ref: str | None
    source: str | None
    revision: int
    history: list[Version]


class Revision(BaseModel):
    revision: int
    at: str
    action: str
    by: str | None
    note: str | None
    examples: int


class History(BaseModel):
    """A page, newest first; `next` is the cursor of the one that follows, null on the last."""

    history: list[Revision]
    next: str | None


class LabelCount(BaseModel):
    label: str
    examples: int


class LabelCounts(BaseModel):
    labels: list[LabelCount]


class ModelInfo(BaseModel):
    """`fit` is what the fit measured and chose."""

    task: Literal["single", "multi"]
    recipe: str
    encoder: str
    generation: int
    revision: int
    examples: int
    labels: int
    fit: dict[str, Any]


class Alive(BaseModel):
    status: Literal["alive"]


class Ready(BaseModel):
    status: Literal["ready"]
    revision: int


class ErrorInfo(BaseModel):
    type: str
    message: str
    hint: str


class ErrorEnvelope(BaseModel):
    """What was found, and what to do next."""

    error: ErrorInfo


# As Text Embeddings Inference has it

_Part = Annotated[str, Field(json_schema_extra={"minLength": 1, **_FILLED})]
_Sequence = Annotated[list[_Part], Field(min_length=1, max_length=2, fail_fast=True)]
_Inputs = Annotated[
    Annotated[_Part, Tag(_TEXT)]
    | Annotated[_Sequence, Tag(_LIST)]
    | Annotated[list[_Sequence], Field(fail_fast=True, json_schema_extra={"minItems": 1}), Tag(_BATCH)],
    Discriminator(_text_list_or_batch),
]


class Predict(BaseModel):
    """What it takes; keys that it does not know are left aside, as it leaves them."""

    model_config = ConfigDict(strict=True)

    inputs: _Inputs = Field(
        description="A text, a pair of texts (read as one, a space between), or a batch: a list of lists of one or two."
    )
    raw_scores: bool = Field(False, description="Scores before softmax (one label a text) or sigmoid (several).")
    truncate: bool | None = Field(None, description="Cut off what is too long, rather than fail.")
    truncation_direction: Literal["left", "right", "Left", "Right"] = Field(
        "right", description="Where a text that is too long is cut."
    )


class InferenceScore(BaseModel):
    score: float
    label: str


class InferenceError(BaseModel):
    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer", "Empty"]
