"""Where a fit that was killed goes on: checkpoints in a folder of their own, bound to what is being fitted.

A checkpoint is the trainer's (optimiser, learning rate, random states) plus the weights of encoder and objective,
the best weights so far and the course of the epochs. Its course is written last, so it marks a whole checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

COURSE = "course.json"
WEIGHTS = "weights.safetensors"
BEST = "best.safetensors"
FINISHED = "finished.json"
RESULT = "finished.safetensors"


def digest(parts: Iterable[bytes]) -> str:
    """SHA-256 over the parts, each preceded by its length so that no two lists of parts are alike."""
    hashing = hashlib.sha256()
    for part in parts:
        hashing.update(len(part).to_bytes(8, "little"))
        hashing.update(part)
    return hashing.hexdigest()


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer once, by name, as they are (not copies)."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def copy_of(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights' present values, in memory of their own."""
    return {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}


def write_weights(weights: Mapping[str, Tensor], file: Path) -> None:
    """Write weights as safetensors."""
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, file)


def put_weights(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    """Copy values into the weights of the same names, in place."""
    with torch.no_grad():
        for name, tensor in into.items():
            tensor.copy_(values[name])


class Checkpoints:
    """The checkpoints of one fit in `folder`, which belongs to it alone. Those of another fit are removed."""

    def __init__(self, folder: Path, fit: str) -> None:
        """`fit` is the digest of everything that the fit depends on."""
        self.folder = folder
        mark = folder / "fit.json"
        if not (mark.is_file() and mark.read_text(encoding="utf-8") == json.dumps({"fit": fit})):
            self.remove()
            folder.mkdir(parents=True)
            mark.write_text(json.dumps({"fit": fit}), encoding="utf-8")

    def latest(self) -> Path | None:
        """The whole checkpoint with the most steps; None when there is none yet."""
        whole = [path.parent for path in self.folder.glob(f"checkpoint-*/{COURSE}")]
        return max(whole, key=step_of, default=None)

    def complete(self, step: int, course: Mapping[str, Any], best: Mapping[str, Tensor] | None) -> None:
        """Add what the trainer does not know to its checkpoint of this step, then drop all others."""
        checkpoint = self.folder / f"checkpoint-{step}"
        if best is not None:
            write_weights(best, checkpoint / BEST)
        draft = checkpoint / (COURSE + ".part")
        draft.write_text(json.dumps(course), encoding="utf-8")
        draft.replace(checkpoint / COURSE)
        for other in self.folder.glob("checkpoint-*"):
            if other != checkpoint:
                shutil.rmtree(other)

    def finish(self, weights: Mapping[str, Tensor], history: Mapping[str, Any]) -> None:
        """Keep what the fit ended with, in the place of its checkpoints."""
        write_weights(weights, self.folder / RESULT)
        draft = self.folder / (FINISHED + ".part")
        draft.write_text(json.dumps(history), encoding="utf-8")
        draft.replace(self.folder / FINISHED)
        for checkpoint in self.folder.glob("checkpoint-*"):
            shutil.rmtree(checkpoint)

    def finished(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The weights and the history that the fit ended with; None when it did not come to its end."""
        if not (self.folder / FINISHED).is_file():
            return None
        return load_file(self.folder / RESULT), json.loads((self.folder / FINISHED).read_text(encoding="utf-8"))

    def remove(self) -> None:
        """Remove the folder with all it holds."""
        if self.folder.exists():
            shutil.rmtree(self.folder)


def read_course(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Tensor] | None]:
    """The course and the best weights so far, None where no epoch was scored, of a whole checkpoint."""
    best = checkpoint / BEST
    course: dict[str, Any] = json.loads((checkpoint / COURSE).read_text(encoding="utf-8"))
    return course, load_file(best) if best.is_file() else None


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of encoder and objective."""
    return load_file(checkpoint / WEIGHTS)


def step_of(checkpoint: Path) -> int:
    """How many steps had been made when the checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])
