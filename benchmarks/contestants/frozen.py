"""sentence-transformers' embeddings under a classifier of scikit-learn, each with its defaults."""

from __future__ import annotations

import pickle
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sentence_transformers import SentenceTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from benchmarks.contestants import backend_of
from benchmarks.contestants.answering import Answering, rows_of, timed

SCRIPT = """\
import pickle
from sentence_transformers import SentenceTransformer
encoder = SentenceTransformer({encoder!r}, backend={backend!r}, device="cpu")
classifier = pickle.load(open({classifier!r}, "rb"))
print(classifier.predict(encoder.encode([{text!r}]))[0])
"""


def encoder_with(backend: str, encoder: str, folder: str) -> tuple[SentenceTransformer, str]:
    """The encoder under a backend, and the folder that it loads from; its export stands beside `folder`, for others."""
    if backend == "torch":
        return SentenceTransformer(encoder, device="cpu"), encoder
    exported = Path(folder).parent / f"encoder-{backend}"
    if not exported.exists():
        SentenceTransformer(encoder, backend=backend, device="cpu").save_pretrained(str(exported))
    return SentenceTransformer(str(exported), backend=backend, device="cpu"), str(exported)


class Logistic(Answering):
    """LogisticRegression with more iterations than its default, which does not always converge."""

    def classifier(self) -> Any:
        return LogisticRegression(max_iter=1000)

    def prepare(self, encoder: str, folder: str, data: str, held: int | None = None) -> dict[str, Any]:
        """Fit to the train rows. With `held`: as many examples in all, the rest synthetic embeddings."""
        self.folder = Path(folder)
        self.encoder, self.encoder_folder = encoder_with(backend_of(self.name), encoder, folder)
        texts, labels = rows_of(data, "train")
        if held is not None:
            texts, labels = texts[:held], labels[:held]
        self.embeddings = self.encoder.encode(texts, show_progress_bar=False)
        self.labels = list(labels)
        if held is not None and held > len(texts):
            rng = np.random.default_rng(0)
            more = rng.normal(size=(held - len(texts), self.embeddings.shape[1])).astype(np.float32)
            more /= np.linalg.norm(more, axis=1, keepdims=True)
            self.embeddings = np.concatenate([self.embeddings, more])
            self.labels += [labels[i] for i in rng.integers(len(labels), size=len(more))]
        self.fitted = self.classifier().fit(self.embeddings, self.labels)
        return {}

    def answer(self, texts: Sequence[str]) -> list[str]:
        """By the classifier, of the embeddings with `encode`'s defaults."""
        return list(self.fitted.predict(self.encoder.encode(list(texts), show_progress_bar=False)))

    def teach(self, texts: list[str], labels: list[str], ask: str) -> dict[str, Any]:
        """From the call to the changed answer: encode what is new, keep it, fit again, answer."""

        def work() -> str:
            new = self.encoder.encode(texts, show_progress_bar=False)
            self.embeddings, self.labels = np.concatenate([self.embeddings, new]), [*self.labels, *labels]
            self.fitted = self.classifier().fit(self.embeddings, self.labels)
            return self.answer_one(ask)

        seconds, label = timed(work)
        encoding, _ = timed(lambda: self.encoder.encode([ask], show_progress_bar=False))
        return {"seconds": seconds, "label": str(label), "encoding": encoding}

    def command(self, text: str) -> dict[str, Any]:
        """The five lines that answer one text in a process of its own."""
        path = self.folder / "classifier.pickle"
        path.write_bytes(pickle.dumps(self.fitted))
        script = self.folder / "answer.py"
        script.write_text(
            SCRIPT.format(encoder=self.encoder_folder, backend=backend_of(self.name), classifier=str(path), text=text)
        )
        return {"command": [sys.executable, str(script)]}


class Neighbours(Logistic):
    """KNeighborsClassifier with its defaults."""

    def classifier(self) -> Any:
        return KNeighborsClassifier()
