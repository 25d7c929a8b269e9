"""adaptive-classifier: with its defaults it runs the encoder under ONNX Runtime on a CPU."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from adaptive_classifier import AdaptiveClassifier

from benchmarks.contestants.answering import Answering, rows_of, timed

SCRIPT = """\
from adaptive_classifier import AdaptiveClassifier
classifier = AdaptiveClassifier.load({folder!r})
print(classifier.predict({text!r})[0][0])
"""


class Adaptive(Answering):
    """Taught by `add_examples`, asked by `predict_batch`."""

    def prepare(self, encoder: str, folder: str, data: str, held: int | None = None) -> dict[str, Any]:
        """Add the train rows. With `held`: as many in all, the rest with synthetic embeddings, in one call of its own.

        It keeps at most 1,000 examples of a class unless told: here as many as it is given.
        """
        self.folder = Path(folder)
        config = {"max_examples_per_class": held} if held is not None else None
        self.classifier = AdaptiveClassifier(encoder, device="cpu", config=config)
        if not self.classifier.use_onnx:
            raise RuntimeError("adaptive-classifier fell back to PyTorch, which is not its default on a CPU")
        texts, labels = rows_of(data, "train")
        if held is not None:
            texts, labels = texts[:held], labels[:held]
        seconds, _ = timed(lambda: self.classifier.add_examples(texts, labels))
        if held is not None and held > len(texts):
            torch.manual_seed(0)
            more = held - len(texts)
            vectors = torch.nn.functional.normalize(torch.randn(more, self.classifier.embedding_dim), dim=1)
            names = [labels[i % len(labels)] for i in range(more)]
            made = [f"synthetic {i}" for i in range(more)]
            self.classifier._add_examples_unchecked(made, names, list(vectors))
        return {"adding_seconds": round(seconds, 2)}

    def answer(self, texts: Sequence[str]) -> list[str]:
        """`predict_batch` with its defaults."""
        return [scores[0][0] for scores in self.classifier.predict_batch(list(texts))]

    def answer_one(self, text: str) -> str:
        """`predict`."""
        return str(self.classifier.predict(text)[0][0])

    def teach(self, texts: list[str], labels: list[str], ask: str) -> dict[str, Any]:
        """From the call to the changed answer."""

        def work() -> str:
            self.classifier.add_examples(texts, labels)
            return self.answer_one(ask)

        seconds, label = timed(work)
        encoding, _ = timed(lambda: self.classifier._get_embeddings([ask]))
        return {"seconds": seconds, "label": label, "encoding": encoding}

    def command(self, text: str) -> dict[str, Any]:
        """The three lines that answer one text in a process of its own."""
        self.classifier.save(str(self.folder / "model"))
        script = self.folder / "answer.py"
        script.write_text(SCRIPT.format(folder=str(self.folder / "model"), text=text))
        return {"command": [sys.executable, str(script)]}
