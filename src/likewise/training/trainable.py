"""The encoder on the training side: loaded, fine-tuned, and written as the folders that a generation keeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize

from likewise.progress import Progress
from likewise.training.export import export_onnx
from likewise.training.fine_tuning import Beside, Layer, fine_tune
from likewise.training.loading import load, quiet, token_limit
from likewise.training.modules.words import WordNetwork
from likewise.training.schedule import Schedule
from likewise.training.scoring import encoded
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
    """

    labels: list[str]
    task: Task
    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def __init__(self, base: Path, *, pooling: Pooling, normalise: bool, max_tokens: int) -> None:
        """Load a sentence-transformers or transformers folder; EncoderError when it cannot be read."""
        self._model = load(base, pooling=pooling)
        self._model.max_seq_length = min(max_tokens, token_limit(self._model))
        self._normalise = normalise
        self._max_tokens = max_tokens
        self._own = False  # the classifier is the network's own
        self._met: list[str] = []  # the labels that a network with something of its own for each has learnt

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
        label that no training row bears cannot be scored by the classifier and are left out.
        """
        labels = sorted({label for row in label_sets for label in row})
        targets = _targets(label_sets, labels)
        network = self._model[0]
        as_it_is = schedule.frozen or schedule.probe  # the stage starts from the embeddings that there are
        if isinstance(network, WordNetwork) and not as_it_is and labels != self._met:
            network.meet(torch.from_numpy(targets), seed)
            self._met = labels
        known = set(labels)
        scored = [(t, row) for t, row in zip(*dev, strict=True) if known.issuperset(row)] if dev else []
        trained = fine_tune(
            self._model,
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
        )
        if (layer := trained.classifier) is not None:
            self.labels, self.task, self.weights, self.bias = labels, task, layer.weights, layer.bias
            self._own = trained.own
        return trained.history

    def embed(self, texts: Texts) -> NDArray[np.float32]:
        """Embeddings of shape (texts, d), in float32, by torch."""
        with quiet():
            found = self._model.encode(
                list(texts), batch_size=BATCH, normalize_embeddings=self._normalise, show_progress_bar=False
            )
        return np.asarray(found, dtype=np.float32)

    def logits(self, texts: Texts) -> NDArray[np.float32] | None:
        """The network's own logits, float32 (texts, labels), where they are the classifier; None otherwise."""
        if not self._own:
            return None
        with quiet():
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


def _beside(texts: Texts, label_sets: LabelSets, task: Task) -> Beside:
    return Beside(texts, _targets(label_sets, sorted({label for row in label_sets for label in row})), task)


def _targets(label_sets: LabelSets, labels: Sequence[str]) -> NDArray[np.float32]:
    table = [[label in row for label in labels] for row in label_sets]
    return np.array(table, dtype=np.float32).reshape(len(label_sets), len(labels))
