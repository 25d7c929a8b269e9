from __future__ import annotations

import io
import json
from itertools import pairwise

import numpy as np
import pytest
from rich.console import Console
from sklearn import metrics

from likewise.errors import DataError
from likewise.evaluation.report import VOICES, Evaluation
from likewise.types import Task

LabelSets = list[tuple[str, ...]]


def names(n: int) -> list[str]:
    return [f"label number {i:02d}" for i in range(n)]


def answers(task: Task, labels: list[str], texts: int = 300) -> tuple[LabelSets, dict[str, LabelSets]]:
    rng = np.random.default_rng(len(labels))

    def draw(base: np.ndarray | None, share: float) -> np.ndarray:
        if task == "single":
            fresh = np.eye(len(labels), dtype=bool)[rng.integers(len(labels), size=texts)]
            return fresh if base is None else np.where(rng.random((texts, 1)) < share, fresh, base)
        if base is None:
            return rng.random((texts, len(labels))) < 0.3
        return base ^ (rng.random(base.shape) < share)

    def sets(table: np.ndarray) -> LabelSets:
        return [tuple(labels[j] for j in np.flatnonzero(row)) for row in table]

    truth = draw(None, 0)
    return sets(truth), {voice: sets(draw(truth, 0.1 * i)) for i, voice in enumerate(VOICES, start=1)}


def table(label_sets: LabelSets, labels: list[str]) -> np.ndarray:
    return np.array([[label in row for label in labels] for row in label_sets])


def test_hamming_loss_counts_the_labels_that_nobody_named_too() -> None:
    truth, decided = [("a",), ("a", "b")], [("a",), ("b",)]
    found = Evaluation.of(truth, dict.fromkeys(VOICES, decided), "multi", 1, known=["a", "b", "c", "d"]).to_dict()
    assert found["blend"]["hamming_loss"] == 1 / 8
    assert found["blend"]["macro_f1"] == pytest.approx((2 / 3 + 1) / 2)  # the mean over those that were


@pytest.mark.parametrize("task", ["single", "multi"])
def test_every_figure_is_scikit_learns(task: Task) -> None:
    labels = names(5)
    truth, decided = answers(task, labels)
    found = Evaluation.of(truth, decided, task, 12).to_dict()
    assert list(found) == ["n", "revision", "blend", "head", "neighbours", "confusion"]
    assert (found["n"], found["revision"]) == (300, 12)
    true = table(truth, labels)
    for voice in VOICES:
        ours, theirs = found[voice], table(decided[voice], labels)
        assert list(ours) == ["accuracy", "macro_f1", "micro_f1", "hamming_loss", "jaccard", "per_label"]
        assert ours["accuracy"] == pytest.approx(metrics.accuracy_score(true, theirs))
        assert ours["macro_f1"] == pytest.approx(metrics.f1_score(true, theirs, average="macro"))
        assert ours["micro_f1"] == pytest.approx(metrics.f1_score(true, theirs, average="micro"))
        assert ours["hamming_loss"] == pytest.approx(metrics.hamming_loss(true, theirs))
        assert ours["jaccard"] == pytest.approx(metrics.jaccard_score(true, theirs, average="samples", zero_division=1))
        report = metrics.classification_report(true, theirs, target_names=labels, output_dict=True, zero_division=0)
        assert list(ours["per_label"]) == labels
        for label, figures in ours["per_label"].items():
            assert list(figures) == ["precision", "recall", "f1", "support"]
            assert list(figures.values()) == pytest.approx(list(report[label].values()))
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_confusion_of_one_label_a_text() -> None:
    labels = names(5)
    truth, decided = answers("single", labels)
    found = Evaluation.of(truth, decided, "single", 1).to_dict()["confusion"]
    flat = [row[0] for row in truth], [row[0] for row in decided["blend"]]
    assert found == {"labels": labels, "counts": metrics.confusion_matrix(*flat, labels=labels).tolist()}


def test_confusion_of_several_labels_a_text() -> None:
    labels = names(3)
    truth, decided = answers("multi", labels)
    found = Evaluation.of(truth, decided, "multi", 1).to_dict()["confusion"]
    theirs = metrics.multilabel_confusion_matrix(table(truth, labels), table(decided["blend"], labels))
    for label, ((tn, fp), (fn, tp)) in zip(labels, theirs.tolist(), strict=True):
        assert found[label] == {"true_positive": tp, "false_positive": fp, "false_negative": fn, "true_negative": tn}


def test_labels_are_all_that_is_true_or_decided() -> None:
    decided = {"blend": [("a",), ("c",)], "head": [("a",), ("a",)], "neighbours": [("d",), ("a",)]}
    evaluation = Evaluation.of([("a",), ("b",)], decided, "single", 1)
    assert evaluation.labels == ["a", "b", "c", "d"]
    found = evaluation.to_dict()
    assert found["blend"]["per_label"]["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1}
    assert found["confusion"]["counts"][1] == [0, 0, 1, 0]


def test_texts_without_any_label() -> None:
    nothing: LabelSets = [(), ()]
    found = Evaluation.of(nothing, dict.fromkeys(VOICES, nothing), "multi", 1)
    assert found.to_dict()["blend"]["accuracy"] == found.to_dict()["blend"]["jaccard"] == 1
    assert found.to_dict()["blend"]["macro_f1"] == 0
    assert "2 texts" in rendered(found)


def test_nothing_to_evaluate() -> None:
    with pytest.raises(DataError, match="no labelled text"):
        Evaluation.of([], dict.fromkeys(VOICES, ()), "single", 1)


def test_a_voice_that_did_not_answer_every_text() -> None:
    decided: dict[str, LabelSets] = {"blend": [("a",)], "head": [], "neighbours": [("a",)]}
    with pytest.raises(ValueError, match="'head'"):
        Evaluation.of([("a",)], decided, "single", 1)


def rendered(evaluation: Evaluation, width: int = 80, **options: bool) -> str:
    out = io.StringIO()
    evaluation.render(Console(file=out, width=width, **options))
    return out.getvalue()


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("n", [2, 12, 50])
def test_readable_at_80_columns(task: Task, n: int) -> None:
    labels = names(n)
    evaluation = Evaluation.of(*answers(task, labels), task, 3)
    lines = rendered(evaluation).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    assert "\x1b" not in text, "no colours in a pipe"
    for heading in ("300 texts", "accuracy", "precision", "recall", "support", "blend", "head", "neighbours"):
        assert heading in text
    found = evaluation.to_dict()
    for label, figures in found["blend"]["per_label"].items():
        (line,) = (line for line in lines if line.startswith(label) and f" {figures['precision']:.3f} " in line)
        for name in ("precision", "recall", "f1"):
            assert f"{figures[name]:.3f}" in line
        assert f" {figures['support']} " in line
    for voice in VOICES:
        assert f"{found[voice]['macro_f1']:.3f}" in text


@pytest.mark.parametrize("task", ["single", "multi"])
@pytest.mark.parametrize("width", [25, 40, 60, 71])
def test_no_figure_is_cut_however_narrow(task: Task, width: int) -> None:
    labels = [*names(3), "a label that is longer than anybody wants to read"]
    evaluation = Evaluation.of(*answers(task, labels, texts=5000), task, 3)
    text = rendered(evaluation, width)
    assert max(map(len, text.splitlines())) <= width
    assert not any(before.isdigit() or before == "." for before, after in pairwise(text) if after == "…")
    found = evaluation.to_dict()
    for voice in VOICES:
        for measure in ("accuracy", "macro_f1", "micro_f1", "hamming_loss", "jaccard"):
            assert f"{found[voice][measure]:.3f}" in text
        for figures in found[voice]["per_label"].values():
            assert f"{figures['f1']:.3f}" in text
            assert f"{figures['support']:,}" in text
    if task == "multi":
        cells = [f"{cell:,}" for counts in found["confusion"].values() for cell in counts.values()]
        assert all(cell in text for cell in cells)
    assert "hamming loss" in text or width == 40  # there in two lines


def test_confusion_matrix_where_it_fits_and_the_commonest_confusions_where_not() -> None:
    labels = names(12)
    evaluation = Evaluation.of(*answers("single", labels, texts=2000), "single", 3)
    counts = np.array(evaluation.to_dict()["confusion"]["counts"])
    narrow = rendered(evaluation, 60)
    assert "most frequent" in narrow
    assert "--json" in narrow
    wide = rendered(evaluation, 120)
    assert "most frequent" not in wide
    for i, row in enumerate(counts, start=1):
        line = next(line for line in wide.splitlines() if line.split()[:1] == [str(i)] and labels[i - 1] in line)
        assert line.split()[-12:] == [str(c) if c else "." for c in row]


def test_labels_are_shown_as_they_are() -> None:
    odd = ["[red]stop[/red]", "line\nbreak", "escape\x1b[31m", "漢字" * 40, "x" * 200]
    truth: LabelSets = [(label,) for label in odd]
    for task in ("single", "multi"):
        text = rendered(Evaluation.of(truth, dict.fromkeys(VOICES, truth), task, 1))
        assert "[red]stop" in text
        assert "\x1b" not in text
        assert "break" in text
        assert "line\nbreak" not in text


def test_colour_on_a_terminal() -> None:
    evaluation = Evaluation.of(*answers("single", names(3)), "single", 1)
    assert "\x1b[" in rendered(evaluation, force_terminal=True)
