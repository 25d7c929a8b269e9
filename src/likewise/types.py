"""What Likewise hands out: plain, frozen records without behaviour of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Task = Literal["single", "multi"]
"""One label a text, or none to several."""

Pooling = Literal["auto", "mean", "cls", "last", "summary"]
"""How tokens become an embedding: their mean, the first, or the last. "auto": the encoder's own way, the tokens' mean
where it has none; "summary": its own way too, the token that sums up in its family where it has none."""

Projection = Literal["none", "linear", "mlp"]
"""What a contrastive objective compares: embeddings, or what a layer or two make of them while training."""

Batches = Literal["class-aware", "m-per-class", "stratified"]
"""How texts come together in a batch: each with another of its class and of its length; as many of each class that is
drawn; every class by its share in the data."""

SharedLabels = Literal["counted", "any"]
"""How alike two texts with several labels are: by how many labels they share, or fully if they share any."""

LearntFrom = Literal["target", "source", "both"]
"""Which labelled texts train: those of the task at hand, those of another one that it is to profit from, or both."""

Trains = Literal["encoder", "source-encoder", "siamese", "common-space"]
"""What a stage trains: the encoder; one for the other task, beside it; a Siamese projection of the encoder's
embeddings; or a common space of both encoders' embeddings. The encoders stand still in the last two."""

SiamesePairs = Literal["random", "distinct"]
"""Which copies of texts, each with one of the text's labels, a Siamese network compares: any two, or two of different
texts."""

OnConflict = Literal["keep", "replace", "both"]
"""What teaching does with a text that is already there: leave it, give it the new labels, or add a second example."""

Runtime = Literal["auto", "onnxruntime", "openvino"]
"""What runs the encoder."""

Precision = Literal["fp32", "bf16", "int8"]
"""What the encoder calculates in: float32; bfloat16 (eight bits of fraction) with sums in float32; or float32 with its
linear layers in whole numbers of eight bits (`training.eight_bits`)."""

PrecisionChoice = Literal["fp32", "bf16", "int8", "auto"]
"""What a fit is asked for: one of them, or the one that held-out rows and this machine speak for."""

Storage = Literal["float32", "float16"]
"""How a datastore keeps embeddings: as they are, or in half the space, each number rounded to about three digits."""


@dataclass(frozen=True, slots=True)
class Example:
    """One labelled text as the ledger holds it.

    `id` identifies it for ever and is never reused; `ref` is the user's own reference, unique among the
    examples that are not forgotten; `source` says where it came from (a file's name, "python", "fit");
    `revision` is the change that gave it its present text and labels.
    """

    id: int
    text: str
    labels: tuple[str, ...]
    ref: str | None = None
    source: str | None = None
    revision: int = 0


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of the ledger: its number, when (UTC, ISO 8601), what, by whom, to how many examples."""

    revision: int
    at: str
    action: str
    by: str | None
    note: str | None
    examples: int


@dataclass(frozen=True, slots=True)
class ExampleVersion:
    """What one change made of an example; `labels` is None where it was forgotten, `text` too where it was erased."""

    change: Revision
    text: str | None
    labels: tuple[str, ...] | None
    ref: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Difference:
    """What an example was at one revision and is at another; None: it was not there, or forgotten."""

    id: int
    before: Example | None
    after: Example | None


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did. `ids` follow the order of what was given; `revision` is the ledger's afterwards.

    `added`, `updated`, `known` and `kept` count the examples that are new, that were changed, that were there
    with the same labels already, and that were left as they were because `on_conflict="keep"` says so. `conflicts`
    counts, by the same words, the texts for which other labels were there: on the example of their reference, or
    else on every example of that text.
    """

    revision: int
    ids: tuple[int, ...]
    added: int = 0
    updated: int = 0
    known: int = 0
    kept: int = 0
    conflicts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Erasure:
    """What an erasure did. `ids` were erased; `shared` are other examples that have, or once had, one of their texts.

    Those keep it: erase them too where the text itself must go.
    """

    revision: int
    ids: tuple[int, ...]
    shared: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Refit:
    """What a refit made: the generation that answers from `revision` on, which encoder it kept, and the scores.

    `before` and `after`: the measure of head, neighbours and blend on the same held-out rows, by the generation before
    and by this one. Of the `held` rows `seen` were there when the one before was trained, so that it may have learnt
    them by heart; and the settings of this one were chosen on them. Both scores are somewhat optimistic.
    """

    generation: int
    revision: int
    kept: str
    examples: int
    measure: str
    judged_on: str
    held: int
    seen: int
    before: dict[str, float]
    after: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A cited example: `distance` is Euclidean between keys, `weight` its share of the vote (they sum to 1)."""

    id: int
    text: str
    labels: tuple[str, ...]
    distance: float
    weight: float


Scores = tuple[tuple[str, float], ...]
"""Labels with their probability, highest first; equal ones by name."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one text: the blend, both voices, the cited neighbours and the revision it rests on.

    `labels` is the decision: exactly one label in a single-label model; in a model with several labels a text,
    those that reach their thresholds, highest first, possibly none. `lambda_` is the neighbours' weight.
    `stale` is true when the ledger could not be reached and an older revision answered.
    """

    text: str
    task: Task
    labels: tuple[str, ...]
    scores: Scores
    head: Scores
    vote: Scores
    neighbours: tuple[Neighbour, ...]
    lambda_: float
    revision: int
    stale: bool = False

    @property
    def label(self) -> str | None:
        """The best label; None when several labels are allowed and none reaches its threshold."""
        return self.labels[0] if self.labels else None

    @property
    def score(self) -> float:
        """The blended probability of the best-scored label."""
        return self.scores[0][1]

    def to_dict(self) -> dict[str, Any]:
        """The prediction as it stands in JSON: `label` and `score`, or `labels` where several are allowed."""

        def pairs(scores: Scores) -> list[dict[str, Any]]:
            return [{"label": label, "score": score} for label, score in scores]

        decision: dict[str, Any] = (
            {"label": self.label, "score": self.score} if self.task == "single" else {"labels": list(self.labels)}
        )
        out: dict[str, Any] = {
            "text": self.text,
            **decision,
            "scores": pairs(self.scores),
            "head": pairs(self.head),
            "neighbours": [
                {"id": n.id, "text": n.text, "labels": list(n.labels), "distance": n.distance, "weight": n.weight}
                for n in self.neighbours
            ],
            "lambda": self.lambda_,
            "revision": self.revision,
        }
        if self.stale:
            out["stale"] = True
        return out


@dataclass(frozen=True, slots=True)
class Cause:
    """A changed example that had a part in a changed answer.

    `effect` is how far undoing it alone leads back: what the labels that were lost gain in probability, and those that
    were won lose. `alone`: undoing it alone brings the earlier decision back.
    """

    id: int
    effect: float
    alone: bool


@dataclass(frozen=True, slots=True)
class ChangedAnswer:
    """A text whose decision differs between two revisions, and the changed examples that caused it, strongest first."""

    before: Prediction
    after: Prediction
    causes: tuple[Cause, ...]
