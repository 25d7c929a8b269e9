"""Model: its history, itself as it was, and the way back."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from likewise.bundle import Layout
from likewise.datastore.ledger import Ledger, NewExample
from likewise.errors import ExampleError, LedgerReadOnly, LikewiseError, UsageError
from likewise.fitting import fit
from likewise.model import Model
from likewise.types import Example, Prediction
from rows import ROWS

ASKED = ["my parcel", "the bank card is lost", "a sick bird", "why"]
NEW = ["a sick bird", "blue tree", "parcel ship late", "my mother is sick"]
LABELS = ["delivery", "invoice", "health"]


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Iterator[Model]:
    with Model.open(shutil.copytree(fitted, tmp_path / "model")) as opened:
        yield opened


def afresh(fitted: Path, folder: Path, examples: list[Example]) -> Model:
    """A model of the same generation whose ledger was never anything but these examples."""
    path = Path(shutil.copytree(fitted, folder))
    layout = Layout(path)
    shutil.rmtree(layout.snapshot.parent)
    layout.datastore.unlink()
    with Model.open(fitted) as known, Ledger.create(layout.datastore, task="single") as ledger:
        vectors = known._answering.encoder.encode([example.text for example in examples])
        new = [NewExample(e.text, e.labels, e.ref, v) for e, v in zip(examples, vectors, strict=True)]
        ledger.teach(new, known._answering.fingerprint, on_conflict="both")
    return Model.open(path)


def assert_alike(found: Prediction, expected: Prediction) -> None:
    """The same answer for the same reasons; ids differ, in one order. Embeddings made in another batch are close."""
    for mine, theirs in ((found.scores, expected.scores), (found.head, expected.head), (found.vote, expected.vote)):
        assert dict(mine) == pytest.approx(dict(theirs), abs=1e-5)
    assert [(n.text, n.labels) for n in found.neighbours] == [(n.text, n.labels) for n in expected.neighbours]
    np.testing.assert_allclose(
        [(n.distance, n.weight) for n in found.neighbours],
        [(n.distance, n.weight) for n in expected.neighbours],
        atol=1e-4,
    )
    assert found.labels == expected.labels


def erased(model: Model) -> set[int]:
    """The ids that were erased."""
    found = set()
    with contextlib.suppress(ExampleError):  # past the last id that was given
        for number in itertools.count(1):
            if model.history_of(number)[0].text is None:
                found.add(number)
    return found


one_change = st.one_of(
    st.tuples(st.just("teach"), st.sampled_from(NEW), st.sampled_from(LABELS)),
    st.tuples(st.just("forget"), st.integers(1, 42)),
    st.tuples(st.just("relabel"), st.integers(1, 42), st.sampled_from(LABELS)),
    st.tuples(st.just("rename_label"), st.sampled_from(LABELS), st.sampled_from([*LABELS, "other"])),
    st.tuples(st.just("merge_labels"), st.sampled_from(LABELS), st.sampled_from([*LABELS, "other"])),
    st.tuples(st.just("revert"), st.integers(1, 6)),
    st.tuples(st.just("erase"), st.integers(1, 42)),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(one_change, min_size=1, max_size=8), data=st.data())
def test_the_model_at_any_revision_is_one_made_of_the_examples_of_then(
    fitted: Path, tmp_path_factory: pytest.TempPathFactory, changes: list[Any], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("sequence")
    then: dict[int, list[Example]] = {}
    with Model.open(shutil.copytree(fitted, folder / "model")) as model:
        then[model.revision] = model.examples()
        for verb, *arguments in changes:
            try:
                getattr(model, verb)(*arguments)
            except UsageError:
                continue  # what the sequence asks for is not always possible
            then[model.revision] = model.examples()
        revision = data.draw(st.sampled_from(sorted(then)))
        gone = erased(model)
        then = {at: [example for example in examples if example.id not in gone] for at, examples in then.items()}
        with model.as_of(revision) as past, afresh(fitted, folder / "afresh", then[revision]) as fresh:
            assert past.examples() == then[revision]
            assert (past.revision, past.labels) == (revision, fresh.labels)
            if then[revision]:
                for found, expected in zip(past.classify(ASKED), fresh.classify(ASKED), strict=True):
                    assert found.revision == revision
                    assert_alike(found, expected)


def test_a_past_model_stays_what_it_is_while_the_present_goes_on(model: Model) -> None:
    before = model.classify(ASKED)
    with model.as_of(1) as past:
        model.teach("a sick bird", "health")
        assert past.classify(ASKED) == before
        assert model.classify("a sick bird").labels == ("health",)
        model.forget(range(1, 11))
        assert past.classify(ASKED) == before
        assert [change.revision for change in past.history()] == [1]
        assert [v.change.action for v in past.history_of(1)] == ["taught"]
        assert past.evaluate(*map(list, zip(*ROWS, strict=True))).to_dict()["revision"] == 1
    assert model.revision == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda model: model.teach("a sick bird", "health"),
        lambda model: model.forget(1),
        lambda model: model.relabel(1, "invoice"),
        lambda model: model.rename_label("invoice", "bill"),
        lambda model: model.merge_labels("invoice", "delivery"),
        lambda model: model.revert(1),
        lambda model: model.save("never"),
    ],
)
def test_a_past_model_is_not_changed(model: Model, change: Callable[[Model], object]) -> None:
    model.teach("blue tree", "delivery")
    with model.as_of(1) as past:
        with pytest.raises((LedgerReadOnly, UsageError), match="as it stood at revision 1"):
            change(past)
        assert past.revision == 1
    assert model.revision == 2


def test_a_past_model_is_not_copied(model: Model, tmp_path: Path) -> None:
    with model.as_of(1) as past:
        for write in (past.save, past.copy_to):
            with pytest.raises(UsageError, match="revert the copy"):
                write(tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_a_model_that_was_never_saved_has_a_past_too(tiny_encoder: Path) -> None:
    texts, labels = zip(*ROWS, strict=True)
    with fit(texts, labels, recipe="frozen", encoder=str(tiny_encoder)) as model:
        before = model.classify(ASKED)
        model.relabel([1, 2, 3], ["invoice"] * 3)
        with model.as_of(1) as past:
            assert past.classify(ASKED) == before
        assert model.classify(ASKED) != before


def test_a_time_means_the_last_revision_before_it(model: Model) -> None:
    model.teach("a sick bird", "health")
    model.teach("blue tree", "health")
    times = [change.at for change in reversed(model.history())]
    for number, at in enumerate(times, start=1):
        moment = datetime.fromisoformat(at)
        for when in (at, moment, moment.replace(tzinfo=None), at.replace("+00:00", ""), at.replace("+00:00", "Z")):
            with model.as_of(when) as past:
                assert past.revision == number
    with model.as_of(datetime.now(UTC) + timedelta(days=1)) as past:
        assert past.revision == 3
    with model.as_of("1999-12-31") as past:
        assert past.revision == 0
        with pytest.raises(LikewiseError, match="no labelled example was in this model at revision 0"):
            past.classify("why")


@pytest.mark.parametrize("when", [-1, 2, "2", "9" * 5000, "yesterday", "", None, 1.0, True])
def test_what_is_no_revision_is_refused(model: Model, when: Any) -> None:
    for ask in (model.as_of, model.revert, lambda when: model.diff(1, when)):
        with pytest.raises(UsageError, match=r"expected (0 to 1|the number of a revision)"):
            ask(when)
    assert model.revision == 1


def test_reverting_brings_every_answer_back(model: Model) -> None:
    before, examples = model.classify(ASKED), model.examples()
    model.teach(["a sick bird", "blue tree"], ["health", "health"])
    model.relabel(1, "invoice", by="ann")
    model.forget(2)
    model.merge_labels("health", "delivery")
    after = model.classify(ASKED)
    change = model.revert(1, by="bob", note="a bad afternoon")
    assert (change.revision, change.ids) == (6, (1, 2, 41, 42))
    assert [(e.id, e.text, e.labels) for e in model.examples()] == [(e.id, e.text, e.labels) for e in examples]
    for found, expected in zip(model.classify(ASKED), before, strict=True):
        assert_alike(found, expected)
    made = model.history(limit=1)[0]
    assert (made.action, made.by, made.note) == ("reverted", "bob", "to revision 1: a bad afternoon")
    model.revert(5)  # which is not lost
    for found, expected in zip(model.classify(ASKED), after, strict=True):
        assert_alike(found, expected)
    assert len(model.history()) == 7
    assert model.revert(7).revision == 7  # nothing to undo: no revision


def test_the_difference_of_two_revisions(model: Model) -> None:
    model.teach("a sick bird", "health", refs="r1")
    model.relabel(1, "invoice")
    model.forget(2)
    model.relabel(3, "invoice")
    model.relabel(3, "delivery")  # as it was
    found = model.diff(1, 6)
    assert [difference.id for difference in found] == [1, 2, 41]
    labels = [(d.before and d.before.labels, d.after and d.after.labels) for d in found]
    assert labels == [(("delivery",), ("invoice",)), (("delivery",), None), (None, ("health",))]
    back = model.diff(6, 1)
    assert [(d.id, d.after, d.before) for d in back] == [(d.id, d.before, d.after) for d in found]
    assert model.diff(6, 6) == []


def test_the_life_of_an_example(model: Model) -> None:
    (number,) = model.teach("a sick bird", "health", by="ann", note="new").ids
    model.relabel(number, "invoice", by="bob")
    model.forget(number)
    told = [(v.change.action, v.change.by, v.change.note, v.labels) for v in model.history_of(number)]
    assert [line[0] for line in told] == ["forgot", "relabelled", "taught"]
    assert told[1:] == [("relabelled", "bob", None, ("invoice",)), ("taught", "ann", "new", ("health",))]
    assert told[0][3] is None
    with pytest.raises(ExampleError, match="no example 99"):
        model.history_of(99)


def test_what_made_an_answer_change(model: Model) -> None:
    before = model.classify(ASKED)
    first, second = model.teach(["a sick bird", "blue tree"], ["health", "health"]).ids
    model.relabel(1, "invoice")
    found = model.diff_answers(ASKED, 1, 3)
    after = model.classify(ASKED)
    differing = [i for i in range(len(ASKED)) if before[i].labels != after[i].labels]
    assert [answer.after for answer in found] == [after[i] for i in differing]
    assert [answer.before for answer in found] == [before[i] for i in differing]
    assert "a sick bird" in [answer.after.text for answer in found]
    back: dict[int, Callable[[], object]] = {
        first: lambda: model.forget(first),
        second: lambda: model.forget(second),
        1: lambda: model.relabel(1, "delivery"),
    }
    for number, undo in back.items():  # each cause against what really undoing it does
        undo()
        for answer in found:
            now = model.classify(answer.after.text)
            old, new = set(answer.before.labels), set(answer.after.labels)
            shares, was = dict(now.scores), dict(answer.after.scores)
            effect = sum(shares.get(label, 0) - was[label] for label in old - new)
            effect -= sum(shares.get(label, 0) - was[label] for label in new - old)
            named = {cause.id: cause for cause in answer.causes}
            if number in named:
                assert named[number].effect == pytest.approx(effect, abs=1e-5)
                assert named[number].alone == (set(now.labels) == old)
            else:
                assert effect <= 1e-4
                assert set(now.labels) != old
        model.revert(3)
    assert all(answer.causes == tuple(sorted(answer.causes, key=lambda c: -c.effect)) for answer in found)
    assert model.diff_answers(ASKED, 3, 3) == []


def test_where_many_have_changed_those_that_vote_are_tried(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    number = model.teach("a sick bird", "health").ids[0]
    model.relabel(range(1, 11), ["invoice"] * 10)
    everything = model.diff_answers(["a sick bird"], 1, 3)[0].causes
    monkeypatch.setattr("likewise.comparing.MOST", 1)
    assert [cause.id for cause in model.diff_answers(["a sick bird"], 1, 3)[0].causes] == [number]
    assert everything[0].id == number
