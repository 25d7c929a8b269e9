"""Fine-tuning a tiny encoder: it learns, repeats itself, survives a kill, and leaves nothing behind."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import TrainerControl

from likewise.errors import DataError, LabelError, SettingError
from likewise.progress import Progress
from likewise.training.checkpoints import Checkpoints
from likewise.training.fine_tuning import History, Layer, fine_tune
from likewise.training.loading import quiet
from likewise.training.schedule import Schedule
from likewise.training.trainer import Watch

SCHEDULE = Schedule(epochs=3, learning_rate=4e-3, head_learning_rate=1e-2, batch_size=8, alignment=0.5, patience=0)


class Listener(Progress):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.updates: list[tuple[int, int, str]] = []
        self.told: list[str] = []

    def update(self, done: int, total: int, note: str = "") -> None:
        self.updates.append((done, total, note))

    def tell(self, message: str) -> None:
        self.told.append(message)


def questions(n: int, seed: int = 0) -> tuple[list[str], NDArray[np.float32]]:
    """Texts of two easy classes, about money and about the weather, in changing lengths."""
    rng = np.random.default_rng(seed)
    texts, targets = [], np.zeros((n, 2), dtype=np.float32)
    for row in range(n):
        words = "bill card money paid bank invoice" if row % 2 else "rain sun wind warm summer cold"
        texts.append(" ".join(rng.choice(words.split(), rng.integers(1, 5))))
        targets[row, row % 2] = 1
    return texts, targets


def load(folder: Path) -> SentenceTransformer:
    with quiet():
        return SentenceTransformer(str(folder), device="cpu")


def weights(model: SentenceTransformer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def fit(folder: Path, work: Path, schedule: Schedule = SCHEDULE, **more: Any) -> tuple[SentenceTransformer, History]:
    model = load(folder)
    texts, targets = questions(40)
    given: dict[str, Any] = {"task": "single", "seed": 0, "progress": Progress(), **more}
    return model, fine_tune(model, texts, targets, schedule=schedule, work=work, **given).history


def gap(model: SentenceTransformer, texts: list[str], targets: NDArray[np.float32]) -> float:
    """How much higher the mean cosine is within the classes than between them."""
    embeddings = model.encode(texts, show_progress_bar=False, normalize_embeddings=True)
    cosines, alike = embeddings @ embeddings.T, targets @ targets.T > 0
    return float(cosines[alike].mean() - cosines[~alike].mean())


def test_it_separates_two_easy_classes(tiny_encoder: Path, tmp_path: Path) -> None:
    dev_texts, dev_targets = questions(30, seed=1)
    listener = Listener()
    model, history = fit(tiny_encoder, tmp_path, dev_texts=dev_texts, dev_targets=dev_targets, progress=listener)
    assert [epoch.epoch for epoch in history.epochs] == [1, 2, 3]
    assert history.epochs[-1].loss < history.epochs[0].loss
    best = history.epochs[history.best_epoch - 1].dev_score
    assert best is not None and best > 0.9
    assert gap(model, dev_texts, dev_targets) > gap(load(tiny_encoder), dev_texts, dev_targets) + 0.3
    assert [done for done, _, _ in listener.updates] == list(range(1, 16))
    assert listener.updates[0][1] == 15
    assert listener.updates[0][2].startswith("loss ")
    json.dumps([asdict(history), asdict(SCHEDULE)])
    assert Schedule(**json.loads(json.dumps(asdict(SCHEDULE)))) == SCHEDULE
    assert hash(SCHEDULE) == hash(replace(SCHEDULE))


def test_the_same_seed_gives_the_same_weights(tiny_encoder: Path, tmp_path: Path) -> None:
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first, _ = fit(tiny_encoder, tmp_path)
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    again, _ = fit(tiny_encoder, tmp_path / "again")
    other, _ = fit(tiny_encoder, tmp_path, seed=1)
    assert same(weights(first), weights(again))
    assert not same(weights(first), weights(other))


def state_of_the_process() -> dict[str, Any]:
    return {
        "python": random.getstate(),
        "numpy": [np.asarray(part).tolist() for part in np.random.get_state()],
        "torch": torch.get_rng_state().tolist(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "threads": torch.get_num_threads(),
        "levels": {name: logging.getLogger(name).level for name in ("transformers", "accelerate", "datasets")},
        "environment": dict(os.environ),
    }


@pytest.mark.parametrize("fails", [False, True])
def test_it_leaves_the_process_as_it_was(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    monkeypatch.setattr(logging.getLogger("transformers"), "level", logging.WARNING + 1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    before = state_of_the_process()
    if fails:
        with pytest.raises(SettingError, match=r"training diverged: the loss became nan at step .* lower"):
            fit(tiny_encoder, tmp_path, replace(SCHEDULE, learning_rate=1e30, head_learning_rate=1e30))
    else:
        fit(tiny_encoder, tmp_path)
    assert state_of_the_process() == before
    assert accelerator.state.mixed_precision == "no"
    assert [path.name for path in tmp_path.iterdir()] in ([], ["fine-tuning"])


def test_it_leaves_nothing_else_behind(tiny_encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    untouched = load(tiny_encoder)
    capfd.readouterr()
    model, _ = fit(tiny_encoder, tmp_path, checkpoint_seconds=0)
    written = capfd.readouterr()
    assert (written.out, written.err) == ("", "")
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "fine-tuning", "finished.json", "finished.safetensors", "fit.json",
    ]  # fmt: skip
    assert model.__dict__.keys() == untouched.__dict__.keys()
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_classifier_starts_from_a_probe(tiny_encoder: Path, tmp_path: Path) -> None:
    """Hardly trained, it is still the probe; and another probe is another fit, not one to be found again."""
    texts, targets = questions(40)
    rng = np.random.default_rng(0)
    for at in range(2):
        model = load(tiny_encoder)
        probe = Layer(rng.normal(size=(model.get_embedding_dimension(), 2)) * 30, rng.normal(size=2))
        still = replace(SCHEDULE, learning_rate=1e-9, head_learning_rate=1e-9, weight_decay=0.0, epochs=1)
        given: dict[str, Any] = {"task": "single", "seed": 0, "work": tmp_path, "progress": Progress()}
        found = fine_tune(model, texts, targets, schedule=still, probe=probe, **given).classifier
        assert found is not None
        np.testing.assert_allclose(found.weights, probe.weights, rtol=1e-5, atol=1e-5, err_msg=str(at))
        np.testing.assert_allclose(found.bias, probe.bias, rtol=1e-5, atol=1e-5)


def test_a_probe_that_knows_the_classes_starts_with_a_lower_loss(tiny_encoder: Path, tmp_path: Path) -> None:
    texts, targets = questions(40)
    embeddings = load(tiny_encoder).encode(texts, show_progress_bar=False, normalize_embeddings=True)
    apart = embeddings[targets[:, 0] > 0].mean(axis=0) - embeddings[targets[:, 1] > 0].mean(axis=0)
    weights = np.stack([apart, -apart], axis=1).astype(np.float64) * 100
    knowing = Layer(weights, -embeddings.mean(axis=0).astype(np.float64) @ weights)
    schedule = replace(SCHEDULE, epochs=1, alignment=0.0, learning_rate=1e-9, head_learning_rate=1e-9, dropout=0.0)
    given: dict[str, Any] = {"task": "single", "schedule": schedule, "seed": 0, "progress": Progress()}
    losses = []
    for probe in (knowing, None):
        model = load(tiny_encoder)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # so strong weights make much of what dropout hides
        found = fine_tune(model, texts, targets, probe=probe, work=tmp_path / str(len(losses)), **given)
        losses.append(found.history.epochs[0].loss)
    assert losses[0] < losses[1] - 0.1


def test_early_stopping_keeps_the_last_epoch_that_is_as_good_as_the_best(tiny_encoder: Path, tmp_path: Path) -> None:
    """Dev labels that contradict the training labels: the better it learns, the worse the score."""
    dev_texts, dev_targets = questions(30, seed=1)
    contrary = dict(dev_texts=dev_texts, dev_targets=dev_targets[:, ::-1].copy())
    schedule = replace(SCHEDULE, epochs=8, patience=2)
    model, history = fit(tiny_encoder, tmp_path / "long", schedule, **contrary)
    scores = [epoch.dev_score for epoch in history.epochs]
    assert len(scores) < 8
    near = max(scores) - np.sqrt(max(scores) * (1 - max(scores)) / len(dev_texts))
    assert history.best_epoch == max(i for i, score in enumerate(scores, start=1) if score >= near) == len(scores) - 2
    # The learning rate falls over all 8 epochs, so a shorter fit would not end there: stop the same one by patience.
    again, shorter = fit(tiny_encoder, tmp_path / "again", replace(schedule, patience=1), **contrary)
    assert shorter.best_epoch == history.best_epoch
    assert len(shorter.epochs) == len(scores) - 1
    assert same(weights(again), weights(model))


def test_a_fit_may_end_where_another_one_was_best(tiny_encoder: Path, tmp_path: Path) -> None:
    """The weights are those of that epoch in the whole course, not of a shorter one."""
    dev_texts, dev_targets = questions(30, seed=1)
    contrary = dict(dev_texts=dev_texts, dev_targets=dev_targets[:, ::-1].copy())
    whole, history = fit(tiny_encoder, tmp_path / "whole", **contrary)
    assert history.best_epoch < len(history.epochs)
    short, ended = fit(tiny_encoder, tmp_path / "short", stop_after=history.best_epoch)
    assert len(ended.epochs) == history.best_epoch
    assert same(weights(short), weights(whole))


def test_few_texts_are_passed_over_until_the_steps_are_enough(tiny_encoder: Path, tmp_path: Path) -> None:
    listener = Listener()
    schedule = replace(SCHEDULE, batch_size=64, epochs=2, min_steps=7)
    _, history = fit(tiny_encoder, tmp_path, schedule, progress=listener)
    assert len(history.epochs) == 2
    assert history.best_epoch == 2
    assert [epoch.dev_score for epoch in history.epochs] == [None, None]
    assert listener.updates[-1][:2] == (8, 8)  # four passes an epoch, one batch a pass


@pytest.mark.parametrize(
    ("steps", "expected"), [(1, (4, 10)), (10, (4, 1)), (100, (4, 1)), (260, (3, 1)), (400, (2, 1)), (5000, (2, 1))]
)
def test_epochs_and_passes_for_few_and_for_many_texts(steps: int, expected: tuple[int, int]) -> None:
    assert Schedule(epochs=4, min_steps=40, max_steps=800).course(steps) == expected
    assert Schedule(epochs=1, max_steps=800).course(steps) == (1, 1)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from sentence_transformers import SentenceTransformer
from transformers import TrainerControl
from likewise.progress import Progress
from likewise.training.loading import quiet
from likewise.training.fine_tuning import fine_tune
from likewise.training.schedule import Schedule
from likewise.training.trainer import Watch
import json

class Killer(Progress):
    def update(self, done, total, note=""):
        if done == given["kill_at"]:
            os.kill(os.getpid(), signal.SIGKILL)

given = json.loads(sys.argv[1])
fine_tune(
    SentenceTransformer(given["encoder"], device="cpu"), given["texts"], np.array(given["targets"], np.float32),
    dev_texts=given["dev_texts"], dev_targets=np.array(given["dev_targets"], np.float32), task="single",
    schedule=Schedule(**given["schedule"]), seed=0, work=Path(given["work"]), progress=Killer(), checkpoint_seconds=0,
)
"""


@pytest.mark.parametrize("kill_at", [8, 11], ids=["within an epoch", "right after an epoch"])
def test_a_killed_fit_goes_on_and_ends_the_same(tiny_encoder: Path, tmp_path: Path, kill_at: int) -> None:
    texts, targets = questions(40)
    dev_texts, dev_targets = questions(30, seed=1)
    contrary = dev_targets[:, ::-1].copy()  # so that the best epoch is one from before the kill
    whole, expected = fit(tiny_encoder, tmp_path / "whole", dev_texts=dev_texts, dev_targets=contrary)

    work = tmp_path / "killed"
    given = {
        "encoder": str(tiny_encoder), "work": str(work), "schedule": asdict(SCHEDULE), "kill_at": kill_at,
        "texts": texts, "targets": targets.tolist(), "dev_texts": dev_texts, "dev_targets": contrary.tolist(),
    }  # fmt: skip
    ended = subprocess.run([sys.executable, "-c", KILLED, json.dumps(given)], check=False)
    assert ended.returncode == -signal.SIGKILL
    # A kill while a checkpoint is being written leaves one without its course: it must not be used.
    (work / "fine-tuning" / f"checkpoint-{kill_at + 1}").mkdir()

    listener = Listener()
    model, history = fit(tiny_encoder, work, dev_texts=dev_texts, dev_targets=contrary, progress=listener)
    assert listener.told == [f"Training goes on after step {kill_at - 1}, where it was interrupted."]
    assert listener.updates[0][0] == kill_at
    assert same(weights(model), weights(whole))
    assert history.best_epoch == expected.best_epoch
    assert [(e.epoch, e.loss, e.dev_score) for e in history.epochs] == [
        (e.epoch, e.loss, e.dev_score) for e in expected.epochs
    ]
    at_once = Listener()
    again, same_history = fit(tiny_encoder, work, dev_texts=dev_texts, dev_targets=contrary, progress=at_once)
    assert at_once.updates == []
    assert same_history == history
    assert same(weights(again), weights(whole))


class Stop(Exception):
    """An error out of the middle of a fit."""


class Stopper(Progress):
    def update(self, done: int, total: int, note: str = "") -> None:
        if done == 4:
            raise Stop


def test_checkpoints_of_another_fit_are_not_continued(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        fit(tiny_encoder, tmp_path, progress=Stopper(), checkpoint_seconds=0)
    assert any((tmp_path / "fine-tuning").glob("checkpoint-3/*"))
    listener = Listener()
    model, _ = fit(tiny_encoder, tmp_path, seed=7, progress=listener)
    assert listener.told == []
    fresh, _ = fit(tiny_encoder, tmp_path / "fresh", seed=7)
    assert same(weights(model), weights(fresh))


def test_what_has_no_weights_makes_another_fit_too(tiny_encoder: Path, tmp_path: Path) -> None:
    texts, targets = questions(16)

    def trained(pooling: str) -> dict[str, torch.Tensor]:
        model = load(tiny_encoder)
        model[1] = Pooling(model.get_embedding_dimension(), pooling)
        fine_tune(
            model, texts, targets, schedule=replace(SCHEDULE, epochs=1), work=tmp_path / "work", task="single", seed=0,
            progress=Progress(),
        )  # fmt: skip
        return weights(model)

    assert not same(trained("mean"), trained("cls"))


def test_a_stage_of_one_step_trains(tiny_encoder: Path, tmp_path: Path) -> None:
    model, _ = fit(tiny_encoder, tmp_path, replace(SCHEDULE, epochs=1, batch_size=64, warmup=0.1))
    assert not same(weights(model), weights(load(tiny_encoder)))


def test_several_labels_a_text(tiny_encoder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = (rng.random((80, 3)) < 0.4).astype(np.float32)
    words = ("rain", "bill", "cat")
    texts = [" ".join(word for word, has in zip(words, row, strict=True) if has) or "now" for row in targets]
    model = load(tiny_encoder)
    history = fine_tune(
        model, texts[:60], targets[:60], task="multi", schedule=replace(SCHEDULE, epochs=6, contrastive=0.2),
        dev_texts=texts[60:], dev_targets=targets[60:], seed=0, work=tmp_path, progress=Progress(),
    ).history  # fmt: skip
    best = history.epochs[history.best_epoch - 1].dev_score
    assert best is not None and best > 0.9


def test_alignment_alone_is_scored_by_a_classifier_that_teaches_nothing(tiny_encoder: Path, tmp_path: Path) -> None:
    dev_texts, dev_targets = questions(30, seed=1)
    alone = replace(SCHEDULE, cross_entropy=0.0, alignment=1.0, epochs=4)
    _, history = fit(tiny_encoder, tmp_path, alone, dev_texts=dev_texts, dev_targets=dev_targets)
    best = history.epochs[history.best_epoch - 1].dev_score
    assert best is not None and best > 0.9
    _, unscored = fit(tiny_encoder, tmp_path, alone)
    assert unscored.best_epoch == 4


def test_what_it_refuses(tiny_encoder: Path, tmp_path: Path) -> None:
    model = load(tiny_encoder)
    texts, targets = questions(4)
    more: dict[str, Any] = dict(schedule=SCHEDULE, seed=0, work=tmp_path, progress=Progress())
    with pytest.raises(LabelError, match="found 1 class with examples; expected at least two"):
        fine_tune(model, texts[::2], targets[::2], task="single", **more)
    with pytest.raises(DataError, match=r"found 3 texts and targets of shape \(4, 2\); expected shape \(3, 2\)"):
        fine_tune(model, texts[:3], targets, task="single", **more)
    with pytest.raises(DataError, match="row 2 of the targets has 2 labels"):
        fine_tune(model, texts, np.array([[1, 0], [0, 1], [1, 1], [1, 0]], np.float32), task="single", **more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0}, {"batch_size": 1}, {"learning_rate": 0.0}, {"temperature": float("nan")}, {"warmup": 1.0},
        {"dropout": -0.1}, {"alignment": -1.0}, {"cross_entropy": 0.0}, {"min_steps": -1}, {"max_steps": -1},
        {"patience": -1}, {"siamese": 1.0}, {"siamese": 1.0, "trains": "siamese"}, {"reconstruction": 1.0},
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match=next(iter(wrong))):
        Schedule(**wrong)


class _Loss(torch.nn.Module):
    def forward(self) -> torch.Tensor:
        return torch.zeros(())


def test_of_epochs_that_dev_rows_cannot_tell_apart_the_later_is_kept(tmp_path: Path) -> None:
    """On 100 rows a score of 0.9 has a standard error of 0.03: 0.88 is as good, 0.86 is not."""
    scores = iter([0.7, 0.9, 0.88, 0.86, 0.86])
    loss = _Loss()
    watch = Watch(
        loss, lambda: next(scores), Checkpoints(tmp_path / "work", "x"), Progress(),
        dev_rows=100, steps_an_epoch=1, patience=2, slack=1.0, stop_after=0, checkpoint_seconds=1e9,
    )  # fmt: skip
    control, stopped = TrainerControl(), []
    for _ in range(5):
        loss()
        watch._close_epoch(control)
        stopped.append(control.should_training_stop)
    assert watch.best_epoch == 3
    assert stopped == [False, False, False, False, True]


def test_a_frozen_encoder_encodes_each_text_once_and_stays_as_it_is(tiny_encoder: Path, tmp_path: Path) -> None:
    model, rows = load(tiny_encoder), [0]
    before = weights(model)
    texts, targets = questions(40)
    dev_texts, dev_targets = questions(30, seed=1)
    model.register_forward_pre_hook(lambda module, given: rows.__setitem__(0, rows[0] + len(given[0]["input_ids"])))
    schedule = replace(SCHEDULE, frozen=True, alignment=0.0, epochs=5, head_learning_rate=0.1)
    given: dict[str, Any] = {"task": "single", "seed": 0, "progress": Progress(), "work": tmp_path}
    trained = fine_tune(
        model, texts, targets, schedule=schedule, dev_texts=dev_texts, dev_targets=dev_targets, **given
    )  # fmt: skip
    assert rows == [len({*texts, *dev_texts})]
    assert same(before, weights(model)) and all(parameter.requires_grad for parameter in model.parameters())
    assert [epoch.dev_score for epoch in trained.history.epochs][-1] > 0.9  # type: ignore[operator]
    layer = trained.classifier
    assert layer is not None
    logits = model.encode(dev_texts) @ layer.weights + layer.bias
    assert (logits.argmax(axis=1) == dev_targets.argmax(axis=1)).mean() > 0.9
    again = fine_tune(
        model, texts, targets, schedule=schedule, dev_texts=dev_texts, dev_targets=dev_targets, **given
    )  # fmt: skip
    assert again.classifier is not None and (again.classifier.weights == layer.weights).all()  # found again
