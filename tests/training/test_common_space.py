"""The common space of two encoders: its pairs, the reconstruction against a loop, and what its stages train."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from torch import Tensor, nn

from likewise.errors import DataError
from likewise.progress import Progress
from likewise.recipes import RECIPES
from likewise.training.loading import load
from likewise.training.losses.joint import Joint
from likewise.training.losses.reconstruction import Reconstruction
from likewise.training.losses.siamese import SiameseDistance
from likewise.training.modules.two_encoders import TwoEncoders
from likewise.training.schedule import Schedule
from likewise.training.siamese_pairs import SiamesePairSampler, expanded
from likewise.training.trainable import Trainable
from naive import train
from rows import ROWS

TEXTS, LABELS = [text for text, _ in ROWS], [(label,) for _, label in ROWS]
OTHERS = [("late",) if "late" in text or "lost" in text else ("other",) for text in TEXTS]


# Pairs


def test_each_text_has_a_copy_for_each_of_its_labels() -> None:
    texts, labels = expanded(["one", "two", "none"], [("a",), ("b", "c"), ()])
    assert texts == ["one", "two", "two"] and labels == [("a",), ("b",), ("c",)]


def sampler(copies: list[int], size: int, **named: Any) -> SiamesePairSampler:
    """Of as many texts, with so many copies each, in a mixed order."""
    rows = [(f"text {text}", label) for text, count in enumerate(copies) for label in range(count)]
    rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    return SiamesePairSampler(Dataset.from_dict({"text": [t for t, _ in rows], "label": [n for _, n in rows]}), size,
                              **named)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(1, 5), min_size=2, max_size=15), st.integers(1, 12), st.sampled_from(["random", "distinct"]),
    st.booleans(), st.integers(0, 2),
)  # fmt: skip
def test_every_copy_meets_another_once_a_pass(
    copies: list[int], size: int, pairs: Any, drop_last: bool, epoch: int
) -> None:
    made = sampler(copies, size, pairs=pairs, drop_last=drop_last)
    made.set_epoch(epoch)
    batches = list(made)
    assert len(batches) == len(made) and all(
        len(batch) == 2 * size for batch in batches[: -1 if not drop_last else None]
    )
    drawn = [(batch[i], batch[i + 1]) for batch in batches for i in range(0, len(batch), 2)]
    first = [one for one, _ in drawn]
    assert len(set(first)) == len(first) == (sum(copies) // size * size if drop_last else sum(copies))
    assert all(one != other for one, other in drawn)
    if pairs == "distinct":
        assert all(made.text[one] != made.text[other] for one, other in drawn)
    assert list(made) == batches  # the same epoch, the same batches


@pytest.mark.parametrize("pairs", ["random", "distinct"])
def test_every_partner_is_equally_likely(pairs: Any) -> None:
    made = sampler([3, 1, 2, 1], 4, pairs=pairs, passes=4000)
    drawn = Counter((batch[i], batch[i + 1]) for batch in made for i in range(0, len(batch), 2))
    for row in range(7):
        among = [n for n in range(7) if n != row and (pairs == "random" or made.text[n] != made.text[row])]
        counts = np.array([drawn[row, n] for n in among])
        assert counts.sum() == 4000
        expected = 4000 / len(among)
        assert ((counts - expected) ** 2 / expected).sum() < len(among) + 5.5 * (2 * len(among)) ** 0.5


def test_what_cannot_be_paired() -> None:
    for pairs in ("random", "distinct"):
        with pytest.raises(DataError, match="found 1 labelled text to pair"):
            sampler([1], 2, pairs=pairs)
    with pytest.raises(DataError, match="found 1 labelled text to pair"):
        sampler([3], 2, pairs="distinct")
    assert len(list(sampler([3], 2, pairs="random"))) == 2


# Reconstruction


class Both(nn.Module):
    """Stands where two encoders stand: what they yield is given."""

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        return {**features, "sentence_embedding": features["input"]}


class Space(nn.Sequential):
    """What is given (n, 5), of which the last 3 are the target's, and a layer behind it."""

    def __init__(self) -> None:
        super().__init__(Both(), Dense(5, 2))

    def get_embedding_dimension(self) -> int:
        return 2


def layer(linear: nn.Linear, row: list[float]) -> list[float]:
    return [
        bias + sum(w * x for w, x in zip(weights, row, strict=True))
        for weights, bias in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    ]


def test_the_reconstruction_is_that_of_the_loop() -> None:
    torch.manual_seed(0)
    model, siamese = Space().double(), Dense(3, 4).double()
    loss = Reconstruction(model, siamese, 3).double()
    given = torch.randn(6, 5, dtype=torch.float64)
    each = []
    for row in given.tolist():
        common = [math.tanh(x) for x in layer(model[1].linear, row)]
        again = [math.tanh(x) for x in layer(siamese.linear, layer(loss.decoder, common))]
        each.append(math.dist(again, [math.tanh(x) for x in layer(siamese.linear, row[2:])]))
    found = float(loss([{"input": given}], torch.zeros(6)).detach())
    assert found == pytest.approx(sum(each) / len(each), abs=1e-12)
    learns = {name for name, _ in loss.named_parameters()}
    assert learns == {"model.1.linear.weight", "model.1.linear.bias", "decoder.weight", "decoder.bias"}
    assert siamese.linear.weight.requires_grad  # the copy stands still, not what was given


def test_gradients_of_the_reconstruction() -> None:
    torch.manual_seed(1)
    model = Space().double()
    loss = Reconstruction(model, Dense(3, 4).double(), 3).double()
    features = {"input": torch.randn(4, 5, dtype=torch.float64)}
    common = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda e: loss.from_batch(features, e, torch.zeros(4)), common)
    with pytest.raises(DataError, match="give it the texts"):
        loss.from_embeddings(common, torch.zeros(4))
    with pytest.raises(DataError, match="how many dimensions"):
        Reconstruction(nn.Linear(2, 2), Dense(3, 4), 3)


def test_both_losses_work_in_the_librarys_own_trainer(tiny_encoder: Path, tmp_path: Path) -> None:
    target = load(tiny_encoder)
    siamese = Dense(32, 32)
    network = SentenceTransformer(modules=[*target, siamese], device="cpu")
    target.requires_grad_(False)
    rows = {"text": TEXTS, "label": [label == "delivery" for (label,) in LABELS]}
    train(
        SiameseDistance(network), rows, tmp_path, num_train_epochs=40, per_device_train_batch_size=20,
        batch_sampler=SiamesePairSampler,
    )  # fmt: skip
    seen = torch.tensor(network.encode(TEXTS))
    apart = torch.cdist(seen, seen)
    same = torch.tensor([[a == b for b in LABELS] for a in LABELS])
    assert apart[same].mean() < 0.3 < 0.7 < apart[~same].mean() < 1.3

    both = TwoEncoders(list(load(tiny_encoder).requires_grad_(False)), list(target))
    model = SentenceTransformer(modules=[both, Dense(64, 32)], device="cpu")
    loss = Joint(model, {"reconstruction": (1.0, Reconstruction(model, siamese, 32))})

    def missed() -> float:
        model.eval()
        with torch.no_grad():
            return float(loss([model.preprocess(TEXTS)], torch.zeros(len(TEXTS))))

    before = missed()
    train(loss, rows, tmp_path, num_train_epochs=20)
    assert missed() < 0.3 * before


# The stages


def stages(name: str, **named: Any) -> list[Schedule]:
    own = {"epochs": 6, "batch_size": 8, "learning_rate": 3e-3, "head_learning_rate": 1e-2, "max_steps": 0, **named}
    return [replace(stage, **own) for stage in RECIPES[name].stages]


def made(encoder: Path, work: Path, name: str, seed: int = 0, labels: Any = LABELS) -> Trainable:
    """After all stages."""
    trainable = Trainable(encoder, pooling="auto", normalise=False, max_tokens=32)
    for number, schedule in enumerate(stages(name)):
        sets = OTHERS if schedule.data == "source" else labels
        trainable.fine_tune(
            TEXTS, sets, task="single", schedule=schedule, dev=(TEXTS, sets), seed=seed, work=work / str(number),
            progress=Progress(),
        )  # fmt: skip
    return trainable


def test_the_encoders_stand_still_once_they_are_trained_and_read_each_text_once(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    trainable = Trainable(tiny_encoder, pooling="auto", normalise=False, max_tokens=32)
    found, read = [], Counter[str]()
    for number, schedule in enumerate(stages("common-space-3.2")):
        if schedule.trains == "siamese":
            assert trainable._source is not None
            for name, model in (("source", trainable._source), ("target", trainable._model)):
                model[0].register_forward_pre_hook(
                    lambda module, given, name=name: read.update({name: len(given[0]["input_ids"])})
                )
        sets = OTHERS if schedule.data == "source" else LABELS
        before = Counter(read)
        trainable.fine_tune(
            TEXTS, sets, task="single", schedule=schedule, dev=None, seed=0, work=tmp_path / str(number),
            progress=Progress(),
        )  # fmt: skip
        if schedule.trains != "encoder":
            expected = {"siamese": {"target": 40}, "common-space": {"source": 40}}.get(schedule.trains, {})
            assert dict(read - before) == ({} if schedule.frozen else expected)
        found.append(trainable.embed(TEXTS))
    plain, target, siamese, space, predictor = found
    assert np.array_equal(plain, load(tiny_encoder).encode(TEXTS))  # the source's encoder is one of its own
    assert not np.allclose(target, plain, atol=1e-2) and np.array_equal(target, siamese)
    assert space.shape == target.shape and np.abs(space).max() < 1 and np.array_equal(space, predictor)
    trainable.save(tmp_path / "kept")
    kept = load(tmp_path / "kept")
    assert np.allclose(kept[0].models[1].encode(TEXTS), target, atol=1e-6)
    assert not np.allclose(kept[0].models[0].encode(TEXTS), target, atol=1e-2)
    logits = space @ trainable.weights + trainable.bias
    right = [(trainable.labels[best],) == label for best, label in zip(logits.argmax(axis=1), LABELS, strict=True)]
    assert np.mean(right) > 0.9


def test_what_was_done_is_found_again_and_belongs_to_its_encoders(tiny_encoder: Path, tmp_path: Path) -> None:
    class Steps(Progress):
        steps = 0

        def update(self, done: int, total: int, note: str = "") -> None:
            self.steps += 1

    first = made(tiny_encoder, tmp_path / "work", "common-space-3.3")
    again = made(tiny_encoder, tmp_path / "work", "common-space-3.3")
    assert np.array_equal(first.embed(TEXTS), again.embed(TEXTS)) and np.array_equal(first.weights, again.weights)
    fresh = made(tiny_encoder, tmp_path / "fresh", "common-space-3.3")
    assert np.array_equal(first.embed(TEXTS), fresh.embed(TEXTS))  # one seed, one result
    swapped = [("delivery",) if label == "invoice" else ("invoice",) for (label,) in LABELS]
    trainable = Trainable(tiny_encoder, pooling="auto", normalise=False, max_tokens=32)
    trained = []
    for number, schedule in enumerate(stages("common-space-3.3")):
        sets = OTHERS if schedule.data == "source" else swapped if number == 1 else LABELS
        trainable.fine_tune(
            TEXTS, sets, task="single", schedule=schedule, dev=(TEXTS, sets), seed=0,
            work=tmp_path / "work" / str(number), progress=(steps := Steps()),
        )  # fmt: skip
        trained.append(steps.steps > 0)
    # Rows and schedules of the last two stages are as they were, the encoder that they stand on is not.
    assert trained == [False, True, True, True]
    assert not np.allclose(first.embed(TEXTS), trainable.embed(TEXTS), atol=1e-3)
