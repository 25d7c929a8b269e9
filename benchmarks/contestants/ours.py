"""Likewise, as its users have it: predictions with both voices and the cited neighbours, from an opened directory."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contestants import ENCODER_TOKENS, backend_of
from benchmarks.contestants.answering import Answering, rows_of, timed
from likewise.bundle import Layout
from likewise.datastore.ledger import Ledger, NewExample
from likewise.fitting import fit
from likewise.model import Model
from likewise.progress import Progress
from likewise.settings import Settings

CHUNK = 20_000


class Silent(Progress):
    """Says nothing."""

    def warn(self, message: str) -> None:
        """Nothing: the data are as they are."""


class Likewise(Answering):
    """Recipe `frozen` where answering is measured: the encoder is everybody's, so its training changes no speed."""

    def prepare(self, encoder: str, folder: str, data: str, held: int | None = None) -> dict[str, Any]:
        """Fit to the train rows, save, open. With `held`: hold as many examples in all, the rest synthetic."""
        texts, labels = rows_of(data, "train")
        if held is not None:
            texts, labels = texts[:held], labels[:held]
        path = Path(folder) / "model"
        settings = Settings(max_tokens=ENCODER_TOKENS)
        with fit(texts, labels, recipe="frozen", encoder=encoder, settings=settings, progress=Silent()) as model:
            model.save(path)
        if held is not None:
            _fill(path, held - len(texts), sorted(set(labels)))
        self.path = path
        self.model = Model.open(path, runtime="openvino" if backend_of(self.name) == "openvino" else "auto")
        return {}

    def answer(self, texts: Sequence[str]) -> list[str]:
        """With everything that a prediction holds, citations included."""
        return [prediction.labels[0] for prediction in self.model.classify(texts)]

    def teach(self, texts: list[str], labels: list[str], ask: str) -> dict[str, Any]:
        """From the call to the changed answer, and what of it one encoding of the question takes."""

        def work() -> str:
            self.model.teach(texts, labels)
            return self.answer_one(ask)

        seconds, label = timed(work)
        encoding, _ = timed(lambda: self.model._answering.embed([ask]))
        return {"seconds": seconds, "label": label, "encoding": encoding}

    def command(self, text: str) -> dict[str, Any]:
        """The command line that answers one text in a process of its own."""
        self.model.close()
        given = ["--runtime", "openvino"] if backend_of(self.name) == "openvino" else []
        return {"command": [sys.executable, "-m", "likewise", "classify", str(self.path), text, "--json", *given]}

    def close_folder(self) -> dict[str, Any]:
        """Let go of the model's directory and remove it."""
        self.model.close()
        shutil.rmtree(self.path)
        return {}

    def encode(self, texts: list[str]) -> dict[str, Any]:
        """Seconds for the embeddings alone."""
        return {"seconds": timed(lambda: self.model._answering.embed(texts))[0]}


def _fill(path: Path, count: int, labels: list[str]) -> None:
    """Teach synthetic examples, around as many centres as there are labels, without encoding anything."""
    with Model.open(path) as model:
        fingerprint = str(model.info.fit["fingerprint"])
        dimension = model._answering.embed(["a"])[0].shape[1]
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(len(labels), dimension))
    with Ledger.open(Layout(path).datastore) as ledger:
        for start in range(0, count, CHUNK):
            rows = min(CHUNK, count - start)
            which = rng.integers(len(labels), size=rows)
            vectors = centres[which] + rng.normal(size=(rows, dimension))
            vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
            new = [NewExample(f"synthetic {start + i}", (labels[which[i]],), None, vectors[i]) for i in range(rows)]
            ledger.teach(new, fingerprint, on_conflict="both")
    with Model.open(path) as model:  # the first answer catches up, and closing writes the snapshot
        model.classify("a")
