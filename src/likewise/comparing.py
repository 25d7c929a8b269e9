"""Which examples and which answers differ between two revisions, and which examples made the answers differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from likewise.answering import Answering
from likewise.datastore.ledger import Ledger
from likewise.state import Voices
from likewise.types import Cause, ChangedAnswer, Difference, Example, Prediction

MOST = 300
"""Examples that are undone one by one; where more have changed, those that vote count first."""

LEAST = 1e-4
"""An effect below this is none."""

Report = Callable[[int, int], None]


def differences(ledger: Ledger, start: int, end: int) -> list[Difference]:
    """The examples that are not at revision `end` what they were at `start`, by id."""
    ids = [delta.example_id for delta in ledger.changes(start, end)[1]]
    before, after = ({example.id: example for example in ledger.examples(ids=ids, at=at)} for at in (start, end))
    pairs = ((number, before.get(number), after.get(number)) for number in ids)
    return [Difference(number, a, b) for number, a, b in pairs if _content(a) != _content(b)]


def _content(example: Example | None) -> tuple[object, ...] | None:
    """What a difference is about; not when it came about."""
    return None if example is None else (example.text, example.labels, example.ref, example.source)


def changed_answers(
    earlier: Answering, later: Answering, texts: list[str], changed: Sequence[int], cite: int, report: Report | None
) -> list[ChangedAnswer]:
    """The texts that the two decide differently, and for each the changed examples that caused it, strongest first.

    A cause is found by trying: the one example is made what it was at the earlier revision, all else stays as it is
    at the later one, and the texts are answered again.
    """
    before, after = list(earlier.predictions(texts, cite)), list(later.predictions(texts, cite))
    places = [i for i, (old, new) in enumerate(zip(before, after, strict=True)) if old.labels != new.labels]
    if not places:
        return []
    affected = [texts[i] for i in places]
    candidates = _candidates(earlier, later, affected, changed)
    causes: list[list[Cause]] = [[] for _ in places]
    for done, (number, voices) in enumerate(later.undoing(affected, candidates, earlier.at or 0), start=1):
        for row, place in enumerate(places):
            cause = _cause(number, voices, row, before[place], after[place])
            if cause:
                causes[row].append(cause)
        if report:
            report(done, len(candidates))
    return [
        ChangedAnswer(before[i], after[i], tuple(sorted(found, key=lambda cause: (-cause.effect, cause.id))))
        for i, found in zip(places, causes, strict=True)
    ]


def _candidates(earlier: Answering, later: Answering, texts: list[str], changed: Sequence[int]) -> list[int]:
    """The changed examples that are tried: all, or as many as `MOST`, those first that vote on one of the texts."""
    if len(changed) <= MOST:
        return list(changed)
    weights = dict.fromkeys(changed, 0.0)
    for side in (earlier, later):
        for answered in side.answers(texts):
            voices = answered.voices
            for ids, shares in zip(voices.hits.ids.tolist(), voices.weights.tolist(), strict=True):
                for number, share in zip(ids, shares, strict=True):
                    if number in weights:
                        weights[number] = max(weights[number], share)
    return sorted(weights, key=lambda number: (-weights[number], number))[:MOST]


def _cause(number: int, voices: Voices, row: int, before: Prediction, after: Prediction) -> Cause | None:
    """What undoing one example does to one text's answer; None where that does not lead back."""
    old, new = set(before.labels), set(after.labels)
    was = dict(after.scores)
    now = dict(zip(voices.labels, voices.blend[row].tolist(), strict=True))
    moved = {label: now.get(label, 0.0) - was.get(label, 0.0) for label in old ^ new}
    effect = sum(moved[label] for label in old - new) - sum(moved[label] for label in new - old)
    alone = set(voices.decide(voices.blend)[row]) == old
    return Cause(number, effect, alone) if alone or effect > LEAST else None
