"""Model: a new generation beside the present one, taken up by whoever has the model open."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from likewise import answering, refitting
from likewise.bundle import Layout, fingerprints, generations
from likewise.checking import check
from likewise.datastore.ledger import Ledger
from likewise.errors import LedgerError, LedgerReadOnly, ModelDamaged, ModelError, SettingError, UsageError
from likewise.fitting import fit
from likewise.model import Model
from likewise.types import Prediction
from rows import ROWS

NEW = [(f"a sick bird {which}", "health") for which in ("late", "lost", "again", "today", "old", "new")]
ASKED = ["my parcel is late", "the bank card is lost", "a sick bird", "why"]
BRISK = {"epochs": 1, "batch_size": 16}


@pytest.fixture(scope="module")
def fitted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    texts, labels = zip(*ROWS, strict=True)
    path = tmp_path_factory.mktemp("refitting") / "model"
    refs = [f"r{i}" for i in range(len(ROWS))]
    fit(texts, labels, refs=refs, recipe="frozen", encoder=str(tiny_encoder)).save(path).close()
    return path


@pytest.fixture
def model(fitted: Path, tmp_path: Path) -> Iterator[Model]:
    with Model.open(shutil.copytree(fitted, tmp_path / "model")) as opened:
        yield opened


@pytest.fixture
def other(tiny_encoder: Path, tmp_path: Path) -> str:
    """Another encoder: the tiny one, its weights changed."""
    from safetensors.numpy import load_file, save_file

    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "other"))
    (file,) = folder.rglob("model.safetensors")
    weights = load_file(file)
    name = next(name for name in weights if name.endswith("word_embeddings.weight"))
    weights[name] = weights[name][::-1].copy()
    save_file(weights, file, metadata={"format": "pt"})
    return str(folder)


def same(found: list[Prediction], expected: list[Prediction]) -> bool:
    return all(
        dict(a.scores) == pytest.approx(dict(b.scores), abs=1e-5) and a.labels == b.labels
        for a, b in zip(found, expected, strict=True)
    )


def test_a_refit_takes_no_setting_that_it_would_not_read(model: Model) -> None:
    with pytest.raises(SettingError, match="neighbours: nothing would read it here"):
        model.refit(neighbours=3)
    assert model.info.generation == 1


def test_a_refit_keeps_ids_refs_and_history(model: Model, other: str) -> None:
    texts, labels = zip(*NEW, strict=True)
    model.teach(list(texts), list(labels))
    model.relabel(3, "invoice")
    model.forget(4)
    before, told = model.examples(), model.history()
    done = model.refit(encoder=other, by="ada", note="monthly")
    assert (done.generation, done.revision, done.examples) == (2, 5, 45)
    assert done.before.keys() == done.after.keys() == {"head", "neighbours", "blend"}
    assert (done.held, done.seen) == (45, 0)  # cross-validated; a frozen encoder has learnt nothing by heart
    assert model.examples() == before
    assert model.history()[1:] == told
    change = model.history()[0]
    assert (change.action, change.by, change.note, change.examples) == ("refitted", "ada", "monthly", 45)
    assert model.info.generation == 2
    assert model.info.encoder == other
    assert check(model.path or "") == []
    assert model.classify("a sick bird").label == "health"


def test_it_answers_as_a_fit_to_these_examples_would(model: Model, other: str) -> None:
    texts, labels = zip(*ROWS, *NEW, strict=True)
    model.teach(list(texts[40:]), list(labels[40:]))
    model.refit(encoder=other)
    with fit(texts, labels, recipe="frozen", encoder=other) as fresh:
        assert same(model.classify(ASKED), fresh.classify(ASKED))


def test_who_has_the_model_open_takes_it_up(model: Model, other: str) -> None:
    assert model.path is not None
    with Model.open(model.path) as elsewhere, model.as_of(1) as past, Model.open(model.path) as idle:
        old = elsewhere.classify(ASKED), past.classify(ASKED)
        model.refit(encoder=other)
        with Model.open(model.path) as looking:
            model.refit(encoder=other)
            assert looking.info.generation == 3
        taught = idle.teach("a sick bird", "health")  # by a process that has not answered since
        answers = elsewhere.classify(ASKED)
        assert not same(answers, old[0])
        assert same(answers, model.classify(ASKED))
        assert answers[2].neighbours[0].id == taught.ids[0]
        assert elsewhere.info.generation == idle.info.generation == 3
        then = past.classify(ASKED)
        assert not same(then, old[1])
        assert [prediction.revision for prediction in then] == [1] * 4
    assert check(model.path) == []


def test_the_past_is_answered_by_the_new_generation(model: Model, other: str, fitted: Path) -> None:
    """Forgotten texts have no embedding by the new encoder until one asks for the past."""
    assert model.path is not None
    model.forget([1, 2, 3])
    model.refit(encoder=other)
    with model.as_of(1) as past, Model.open(model.path) as again:
        assert len(past.examples()) == 40
        found = past.classify(ASKED, 40)
        assert {1, 2, 3} & {n.id for prediction in found for n in prediction.neighbours}
        model.revert(1)
        assert same(found, model.classify(ASKED))
        assert same(found, again.classify(ASKED))
    assert check(model.path) == []


def test_a_read_only_copy_of_a_refitted_model_answers_the_past(model: Model, other: str) -> None:
    model.forget([1, 2])
    model.refit(encoder=other)
    with model.as_of(1) as past:
        expected = past.classify(ASKED)
        with past.as_of(1) as further:  # its ledger is open for reading only
            assert same(further.classify(ASKED), expected)


def test_a_copy_keeps_the_generations_and_pruning_removes_them(model: Model, other: str, tmp_path: Path) -> None:
    model.refit(encoder=other)
    model.save(tmp_path / "copy")
    with Model.open(tmp_path / "copy") as copy:
        assert check(tmp_path / "copy") == []
        layout = Layout(tmp_path / "copy")
        assert generations(layout) == [1, 2]
        size = layout.datastore.stat().st_size
        (layout.generation(2).parent / ".0002.123").mkdir()  # what a killed refit leaves
        expected = copy.classify(ASKED)
        assert copy.prune() == [1]
        assert [path.name for path in layout.generation(2).parent.iterdir()] == ["0002"]
        assert layout.datastore.stat().st_size < size
        assert copy.classify(ASKED) == expected
        assert copy.prune() == []
    assert check(tmp_path / "copy") == []


def test_what_a_refit_cannot_do_leaves_the_model_as_it_was(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = model.classify(ASKED)
    with pytest.raises(SettingError, match="unknown recipe"):
        model.refit(recipe="frozn")
    with pytest.raises(SettingError, match="unknown setting"):
        model.refit(epoch=3)
    with model.as_of(1) as past, pytest.raises(LedgerReadOnly):
        past.refit()
    monkeypatch.setattr(refitting, "write_manifest", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        model.refit()
    monkeypatch.undo()
    assert model.info.generation == 1
    assert model.revision == 1
    assert model.classify(ASKED) == expected
    assert check(model.path or "") == []
    model.forget([example.id for example in model.examples()])
    with pytest.raises(UsageError, match="no examples"):
        model.refit()


def test_an_unsaved_model_can_be_refitted(tiny_encoder: Path, other: str, tmp_path: Path) -> None:
    texts, labels = zip(*ROWS, strict=True)
    with fit(texts, labels, recipe="frozen", encoder=str(tiny_encoder)) as model:
        model.refit(encoder=other)
        expected = model.classify(ASKED)
        model.save(tmp_path / "saved")
        assert model.classify(ASKED) == expected
    with Model.open(tmp_path / "saved") as again:
        assert again.classify(ASKED) == expected
    assert check(tmp_path / "saved") == []


def test_training_at_a_refit_uses_the_settings_given(model: Model) -> None:
    done = model.refit(recipe="likewise", **BRISK)  # type: ignore[arg-type]
    assert done.judged_on == "4-fold cross-validation"
    assert model.info.recipe == "likewise"
    assert model.info.settings["epochs"] == 1
    assert fingerprints(Layout(model.path or Path())).keys() == {1, 2}


def test_another_recipe_gets_no_settings_that_it_has_no_use_for(model: Model) -> None:
    model.refit(recipe="likewise", objective="pairs", **BRISK)  # type: ignore[arg-type]
    assert model.info.settings["measure"] is None and model.info.fit["measure"] == "macro_f1"
    assert model.refit(recipe="frozen").kept == "frozen"
    with pytest.raises(SettingError, match="objective"):
        model.refit(recipe="frozen", objective="pairs")


# Two processes at once


def meanwhile(
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    *,
    before: Callable[[], Any] | None = None,
    after: Callable[[], Any] | None = None,
) -> None:
    """Have something done by another right before the refit's next step of this name, or right after it."""
    done = getattr(refitting, step)

    def run(*given: Any) -> Any:
        monkeypatch.setattr(refitting, step, done)
        if before:
            before()
        found = done(*given)
        if after:
            after()
        return found

    monkeypatch.setattr(refitting, step, run)


def test_pruning_leaves_what_a_refit_is_about_to_answer_from(
    model: Model, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.path is not None
    pruned: list[list[int]] = []
    with Model.open(model.path) as elsewhere:
        meanwhile(monkeypatch, "_embed", after=lambda: pruned.append(elsewhere.prune()))
        assert model.refit(encoder=other).generation == 2
        assert pruned == [[]]
        assert same(elsewhere.classify(ASKED), model.classify(ASKED))
        assert elsewhere.prune() == [1]
    assert check(model.path) == []


def test_a_refit_that_was_overtaken_and_pruned_ends_in_an_error(
    model: Model, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.path is not None
    with Model.open(model.path) as elsewhere:

        def overtaken() -> None:
            assert elsewhere.refit(max_tokens=32).generation == 3
            assert elsewhere.prune() == [1, 2]

        meanwhile(monkeypatch, "_embed", before=overtaken)
        with pytest.raises(ModelError, match="generation 2 was pruned"):
            model.refit(encoder=other)
        assert same(elsewhere.classify(ASKED), model.classify(ASKED))
        assert model.info.generation == 3
    assert check(model.path) == []


def test_a_refit_from_under_which_examples_are_erased_says_so(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    assert model.path is not None
    examples = Ledger.examples
    with Model.open(model.path) as elsewhere:

        def overtaken(*given: Any, **named: Any) -> Any:
            found = examples(*given, **named)
            monkeypatch.setattr(Ledger, "examples", examples)
            elsewhere.erase(1)
            return found

        monkeypatch.setattr(Ledger, "examples", overtaken)
        with pytest.raises(LedgerError, match="erased during the refit"):
            model.refit(max_tokens=32)
    assert model.info.generation == 1
    assert check(model.path) == []


@pytest.mark.parametrize("step", ["best", "_embed"])
def test_a_refit_to_examples_that_were_erased_meanwhile_is_none(
    model: Model, other: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    assert model.path is not None
    with Model.open(model.path) as elsewhere:
        meanwhile(monkeypatch, step, after=lambda: elsewhere.erase(1))
        with pytest.raises(LedgerError, match="erased during the refit"):
            model.refit(encoder=other)
        assert generations(Layout(model.path)) == [1]
        assert model.classify(ASKED) == elsewhere.classify(ASKED)
        assert model.refit(encoder=other).generation == 2
    assert check(model.path) == []


def test_after_a_refit_and_a_prune_elsewhere_everything_goes_on(model: Model, other: str) -> None:
    """For models that have not loaded their encoder yet, and do not know of either."""
    assert model.path is not None
    models = [Model.open(model.path) for _ in range(4)]
    model.refit(encoder=other, max_tokens=32)
    model.prune()
    classifies, counts, measures, erases = models
    assert same(classifies.classify(ASKED), model.classify(ASKED))
    assert counts.max_tokens == 32
    assert len(measures.measured(ASKED)) == len(ASKED)
    assert erases.erase(1).ids == (1,)
    for one in models:
        one.close()
    assert check(model.path) == []


def test_a_generation_that_could_not_be_taken_up_is_taken_up_later(model: Model, other: str) -> None:
    assert model.path is not None
    with Model.open(model.path) as elsewhere:
        expected = elsewhere.classify(ASKED)
        model.refit(encoder=other)
        decision = Layout(model.path).decision(2)
        away = decision.rename(decision.with_name("away"))
        with pytest.raises(ModelDamaged):
            elsewhere.classify(ASKED)
        assert elsewhere._answering.manifest.generation == 1
        away.rename(decision)
        assert same(elsewhere.classify(ASKED), model.classify(ASKED))
        assert not same(elsewhere.classify(ASKED), expected)
        elsewhere.teach("a sick bird", "health")
        assert elsewhere.classify("a sick bird").neighbours[0].distance == pytest.approx(0, abs=1e-6)
    assert check(model.path) == []


def test_who_does_not_know_of_a_refit_leaves_its_snapshot(
    model: Model, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert model.path is not None
    monkeypatch.setattr(answering, "FEW_CHANGES", 3)
    texts, labels = zip(*NEW, strict=True)
    with Model.open(model.path) as elsewhere:
        elsewhere.teach(list(texts), list(labels))
        elsewhere.classify(ASKED)
        model.refit(encoder=other)
    assert check(model.path) == []


KILLED = """
import os, signal, sys
from likewise import refitting
from likewise.model import Model
step, path, encoder = sys.argv[1:]
def die(*given, **more):
    os.kill(os.getpid(), signal.SIGKILL)
def die_after(work):
    def run(*given, **more):
        work(*given, **more)
        die()
    return run
if step == "before the generation": refitting.keep = die
elif step == "before the embeddings": refitting._embed = die
elif step == "before the switch": refitting.write_manifest = die
elif step == "right after it": refitting.write_manifest = die_after(refitting.write_manifest)
Model.open(path).refit(encoder=encoder)
"""


@pytest.mark.parametrize(
    "step", ["before the generation", "before the embeddings", "before the switch", "right after it"]
)
def test_a_killed_refit_leaves_the_old_or_the_new_generation(model: Model, other: str, step: str) -> None:
    assert model.path is not None
    expected = model.classify(ASKED)
    ended = subprocess.run(
        [sys.executable, "-c", KILLED, step, str(model.path), other], check=False, env=dict(os.environ)
    )
    assert ended.returncode == -signal.SIGKILL
    with Model.open(model.path) as after:
        answers = after.classify(ASKED)
        if step == "right after it":
            assert after.info.generation == 2
        else:
            assert (after.info.generation, after.revision) == (1, 1)
            assert answers == expected
        after.teach("a sick bird", "invoice")
        assert after.classify("a sick bird").neighbours[0].text == "a sick bird"
        done: Any = after.refit(encoder=other)
        assert same(after.classify(ASKED), after.classify(ASKED))
        assert after.info.generation == done.generation
        after.prune()
    assert check(model.path) == []
