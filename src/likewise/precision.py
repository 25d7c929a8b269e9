"""Which precision the encoder of a new model answers in, where the fit is to choose (setting `precision`, "auto").

That is a lower one, bfloat16 where processor and runtime have it and whole numbers of eight bits elsewhere, if it costs
the blend less than `SLACK` on the held-out rows, under the settings that float32 led to: other settings, found by
another search, would differ by luck as well.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from likewise.decision.measures import turned
from likewise.decision.tuning import Fold, Search, Tuned, scores
from likewise.encoding.names import from_scratch
from likewise.encoding.sessions import has_bfloat16
from likewise.job import Job
from likewise.settings import Settings
from likewise.types import Precision

SLACK = 0.002
"""By how much the measure of the blend may be lower."""


def first(settings: Settings) -> Precision:
    """The precision that settings are tuned in."""
    return "fp32" if settings.precision == "auto" else settings.precision


def open_question(job: Job) -> bool:
    """Whether a fit is to choose, and can."""
    if job.settings.precision != "auto":
        return False
    return has_bfloat16(job.settings.runtime) or not (
        job.settings.runtime == "openvino" or from_scratch(job.encoder)  # such a network has hardly a linear layer
    )


def lower(settings: Settings) -> Precision:
    """What it chooses, or float32."""
    return "bf16" if has_bfloat16(settings.runtime) else "int8"


def chosen(
    job: Job, tuned: Tuned, exact: Sequence[Fold], fewer: Callable[[], Sequence[Fold]], search: Search
) -> tuple[Precision, Tuned]:
    """The precision, and the settings with their scores in it. `exact` and `fewer`: the held-out rows in float32, which
    the settings were tuned on, and in the lower precision."""
    if not open_question(job):
        return first(job.settings), tuned
    job.progress.stage("Choosing the precision")
    before, after = (scores(of, None, tuned, job.task, job.measure, search) for of in (exact, fewer()))
    enough = turned(job.measure, after["blend"]) >= turned(job.measure, before["blend"]) - SLACK
    other = lower(job.settings)
    job.progress.tell(
        f"Precision: {other if enough else 'fp32'} ({job.measure} of the blend on {job.split.judged_on}: "
        f"{after['blend']:.4f} in {other}, {before['blend']:.4f} in fp32)"
    )
    return (other, replace(tuned, scores=after)) if enough else ("fp32", tuned)
