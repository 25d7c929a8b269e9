"""The encoder on the training side: loaded, fine-tuned, and written as the folders that a generation keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize

from likewise.progress import Progress
from likewise.training.determinism import drawing
from likewise.training.export import export_onnx
from likewise.training.fine_tuning import Beside, Layer, fine_tune
from likewise.training.loading import load, quiet, token_limit
from likewise.training.modules.two_encoders import TwoEncoders
from likewise.training.modules.words import WordNetwork
from likewise.training.remembered import Memory
from likewise.training.schedule import Schedule
from likewise.training.scoring import encoded, on_gpu
from likewise.training.siamese_pairs import expanded
from likewise.training.trainer import History
from likewise.types import Pooling, Task

Texts = Sequence[str]
LabelSets = Sequence[tuple[str, ...]]
BATCH = 64


class Trainable:
    """An encoder with what the recipe says of pooling, normalisation and length (tokens).

    After training with cross-entropy also the classifier that was trained: `weights` (d, labels) and `bias` (labels,)
    of its layer, on embeddings that are not normalised unless it started from a probe. Where the network is a
    classifier of its own, they take its logits in the embeddings' place, as they are.

    Stages that make a common space (`Schedule.trains`) leave two encoders and a layer behind them in the encoder's
    place: linear and tanh, as wide as the encoder. So is the Siamese network, which is a tool and not kept.
    """

    labels: list[str]
    task: Task
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __init__(self, base: Path, *, pooling: Pooling, normalise: bool, max_tokens: int) -> None:
        """Load a sentence-transformers or transformers folder; EncoderError when it cannot be read."""
        self._base, self._pooling = base, pooling
        self._normalise = normalise
        self._max_tokens = max_tokens
        self._model = self._loaded()
        self._source: SentenceTransformer | None = None
        self._siamese: Dense | None = None
        self._memory = Memory()
        self._own = False  # the classifier is the network's own
        self._met: tuple[WordNetwork, list[str]] | None = None  # a network over words, and the labels it has learnt

    def fine_tune(
        self,
        texts: Texts,
        label_sets: LabelSets,
        *,
        task: Task,
        schedule: Schedule,
        dev: tuple[Texts, LabelSets] | None,
        seed: int,
        work: Path,
        progress: Progress,
        stop_after: int = 0,
        beside: tuple[Texts, LabelSets, Task] | None = None,
        probe: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    ) -> History:
        """Train on labelled texts and return the epochs' history; see `fine_tuning.fine_tune`.

        `beside`: texts, label sets and kind of another task that is learnt at the same time. `probe`: weights (d, L)
        and bias (L,) that the classifier starts from, for embeddings of length 1 and the sorted labels of the texts.
        Where a classifier was taught, `labels`, `task`, `weights` and `bias` are its from then on. Dev rows with a
        label that no training row bears cannot be scored by the classifier and are left out. A Siamese network is
        trained on copies of the texts with one label each.
        """
        if schedule.trains == "siamese":
            texts, label_sets = expanded(texts, label_sets)
            dev, task = expanded(*dev) if dev else None, "single"
        labels = sorted({label for row in label_sets for label in row})
        targets = _targets(label_sets, labels)
        model = self._trained_by(schedule, seed)
        network = model[0]
        as_it_is = schedule.stands_still or schedule.probe  # the stage starts from the embeddings that there are
        if isinstance(network, WordNetwork) and not as_it_is and self._met != (network, labels):
            network.meet(torch.from_numpy(targets), seed)
            self._met = network, labels
        known = set(labels)
        scored = [(t, row) for t, row in zip(*dev, strict=True) if known.issuperset(row)] if dev else []
        trained = fine_tune(
            model,
            texts,
            targets,
            task=task,
            schedule=schedule,
            dev_texts=[text for text, _ in scored] or None,
            dev_targets=_targets([row for _, row in scored], labels) if scored else None,
            seed=seed,
            work=work,
            progress=progress,
            stop_after=stop_after,
            beside=None if beside is None else _beside(*beside),
            probe=None if probe is None else Layer(*probe),
            siamese=self._siamese if schedule.reconstruction else None,
            memory=self._memory,
        )
        if (layer := trained.classifier) is not None:
            self.labels, self.task, self.weights, self.bias = labels, task, layer.weights, layer.bias
            self._own = trained.own
        return trained.history

    def _loaded(self) -> SentenceTransformer:
        """The encoder to begin with."""
        model = load(self._base, pooling=self._pooling)
        model.max_seq_length = min(self._max_tokens, token_limit(model))
        return model

    def _trained_by(self, schedule: Schedule, seed: int) -> SentenceTransformer:
        """What a stage trains, put together where it is the first to do so."""
        if schedule.trains == "source-encoder":
            self._source = self._loaded()
            return self._source
        width = cast(int, self._model.get_embedding_dimension())
        if schedule.trains == "siamese":
            self._siamese = _layer(width, width, seed)
            return SentenceTransformer(modules=[*self._model, self._siamese], device="cpu")
        if schedule.trains == "common-space" and self._source is not None:
            both = TwoEncoders(list(self._source), list(self._model))
            space = _layer(both.get_embedding_dimension(), width, seed)
            self._model, self._source = SentenceTransformer(modules=[both, space], device="cpu"), None
        return self._model

    def embed(self, texts: Texts) -> NDArray[np.float32]:
        """Embeddings of shape (texts, d), in float32, by torch."""
        with quiet(), on_gpu(self._model):
            found = self._model.encode(
                list(texts), batch_size=BATCH, normalize_embeddings=self._normalise, show_progress_bar=False
            )
        return np.asarray(found, dtype=np.float32)

    def logits(self, texts: Texts) -> NDArray[np.float32] | None:
        """The network's own logits, float32 (texts, labels), where they are the classifier; None otherwise."""
        if not self._own:
            return None
        with quiet(), on_gpu(self._model):
            return np.asarray(encoded(self._model, list(texts), "logits").cpu().numpy(), dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write an ordinary sentence-transformers folder, which normalises its embeddings where the recipe does."""
        modules = [*self._model, Normalize()] if self._normalise else list(self._model)
        with quiet():
            SentenceTransformer(modules=modules, device="cpu").save(str(folder), create_model_card=False)

    def write(self, folder: Path) -> None:
        """Write the sentence-transformers folder, and in it, as `onnx/`, the encoder that answers."""
        with quiet():
            self._model.save(str(folder), create_model_card=False)
        export_onnx(
            self._model, folder / "onnx", normalise=self._normalise, max_tokens=self._max_tokens, logits=self._own
        )


def _layer(width: int, out: int, seed: int) -> Dense:
    """Linear, then tanh; its weights drawn from `seed`."""
    with drawing(seed):
        return Dense(width, out, activation_function=torch.nn.Tanh())


def _beside(texts: Texts, label_sets: LabelSets, task: Task) -> Beside:
    return Beside(texts, _targets(label_sets, sorted({label for row in label_sets for label in row})), task)


def _targets(label_sets: LabelSets, labels: Sequence[str]) -> NDArray[np.float32]:
    table = [[label in row for label in labels] for row in label_sets]
    return np.array(table, dtype=np.float32).reshape(len(label_sets), len(labels))
