"""SetFit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from setfit import SetFitModel

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
