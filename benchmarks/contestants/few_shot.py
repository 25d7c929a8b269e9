"""SetFit."""

from __future__ import annotations

import math
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments
from sklearn.base import clone
from transformers import TrainerCallback

from benchmarks.contestants import backend_of
from benchmarks.contestants.answering import Answering, rows_of
from benchmarks.contestants.frozen import encoder_with

SCRIPT = """\
from setfit import SetFitModel
model = SetFitModel.from_pretrained({folder!r})
print(model.predict([{text!r}])[0])
"""
SCRIPT_WITH_BACKEND = """\
from sentence_transformers import SentenceTransformer
from setfit import SetFitModel
model = SetFitModel.from_pretrained({folder!r})
model.model_body = SentenceTransformer({encoder!r}, backend={backend!r}, device="cpu")
print(model.predict([{text!r}])[0])
"""


def default_steps(labels: Sequence[str]) -> int:
    """Steps of its one default epoch: as many pairs of different labels as of one (the fewer repeat), 16 a step."""
    counts = Counter(labels).values()
    same = sum(count * (count + 1) // 2 for count in counts)  # a text is paired with itself as well
    different = len(labels) * (len(labels) + 1) // 2 - same
    return math.ceil(2 * max(same, different) / 16)


class Looking(TrainerCallback):
    """Fits a head at every so many steps and asks it dev rows, off the clock."""

    def __init__(
        self, model: SetFitModel, texts: list[str], labels: list[str], dev: list[str], every: int, started: float
    ) -> None:
        self.model, self.rows, self.dev, self.every, self.started = model, (texts, labels), dev, every, started
        self.spent = 0.0
        self.seen: list[tuple[float, list[str]]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Look, where it is time."""
        if state.global_step % self.every:
            return
        began = time.perf_counter()
        body = self.model.model_body
        training = body.training
        head = clone(self.model.model_head).fit(body.encode(self.rows[0], show_progress_bar=False), self.rows[1])
        said = head.predict(body.encode(self.dev, show_progress_bar=False))
        body.train(training)
        self.seen.append((began - self.started - self.spent, [str(label) for label in said]))
        self.spent += time.perf_counter() - began


class SetFit(Answering):
    """Where answering is measured its head is fitted on the encoder as it is: training changes no speed.

    With another backend its body is a SentenceTransformer of that backend, which it calls the same way.
    """

    def prepare(self, encoder: str, folder: str, data: str) -> dict[str, Any]:
        """Fit the head to the train rows."""
        self.folder = Path(folder)
        self.model = SetFitModel.from_pretrained(encoder, device="cpu")
        texts, labels = rows_of(data, "train")
        self.model.fit(texts, labels, num_epochs=1, show_progress_bar=False)
        self.model.save_pretrained(str(self.folder / "model"))
        if backend_of(self.name) != "torch":
            self.model.model_body, self.encoder_folder = encoder_with(backend_of(self.name), encoder, folder)
        return {}

    def answer(self, texts: Sequence[str]) -> list[str]:
        """`predict` with its defaults."""
        return list(self.model.predict(list(texts), show_progress_bar=False))

    def fit(self, encoder: str, data: str, most_steps: int, points: int = 8) -> dict[str, Any]:
        """`Trainer.train` with its defaults but for a cap on its steps (a step is 16 pairs), and what it decides.

        `curve`: what it would decide on dev rows with a head fitted at some points on the way; the time for that is
        taken off. `steps` of `all_steps` were trained.
        """
        (texts, labels), (dev, _), (test, _) = (rows_of(data, part) for part in ("train", "dev", "test"))
        started = time.perf_counter()
        model = SetFitModel.from_pretrained(encoder, device="cpu")
        all_steps = default_steps(labels)
        steps = min(most_steps, all_steps)
        arguments = TrainingArguments(
            max_steps=-1 if steps == all_steps else steps, report_to="none", show_progress_bar=False, save_strategy="no"
        )
        watch = Looking(model, texts, labels, dev, max(1, steps // points), started)
        rows = Dataset.from_dict({"text": texts, "label": labels})
        trainer = Trainer(model=model, args=arguments, train_dataset=rows, callbacks=[watch])
        trainer.train()
        return {
            "seconds": time.perf_counter() - started - watch.spent, "steps": steps, "all_steps": all_steps,
            "curve": watch.seen, "dev": self._said(model, dev), "test": self._said(model, test),
        }  # fmt: skip

    def _said(self, model: SetFitModel, texts: list[str]) -> list[str]:
        return [str(label) for label in model.predict(texts, show_progress_bar=False)]

    def command(self, text: str) -> dict[str, Any]:
        """The few lines that answer one text in a process of its own."""
        script = self.folder / "answer.py"
        folder, backend = str(self.folder / "model"), backend_of(self.name)
        if backend == "torch":
            script.write_text(SCRIPT.format(folder=folder, text=text))
        else:
            script.write_text(
                SCRIPT_WITH_BACKEND.format(folder=folder, encoder=self.encoder_folder, backend=backend, text=text)
            )
        return {"command": [sys.executable, str(script)]}
