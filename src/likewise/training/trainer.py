"""sentence-transformers' trainer as a fit uses it, and what it does between steps."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformerTrainer
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from likewise.errors import SettingError
from likewise.progress import Progress
from likewise.training.checkpoints import (
    WEIGHTS,
    Checkpoints,
    copy_of,
    put_weights,
    read_course,
    read_weights,
    weights_of,
    write_weights,
)


@dataclass(frozen=True, slots=True)
class Epoch:
    """One epoch: its number from 1, mean loss, dev score (None without dev texts), duration in seconds."""

    epoch: int
    loss: float
    dev_score: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class History:
    """What the epochs brought. `best_epoch` is the one whose weights were kept."""

    epochs: tuple[Epoch, ...]
    best_epoch: int

    @classmethod
    def read(cls, content: dict[str, Any]) -> History:
        """The history that `dataclasses.asdict` made this of."""
        return cls(tuple(Epoch(**epoch) for epoch in content["epochs"]), content["best_epoch"])


class EncoderTrainer(SentenceTransformerTrainer):
    """Keeps the objective's own weights in checkpoints too, and writes no model card, tokeniser or log."""

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """Collect nothing for a model card: it would look data sets and models up."""

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or str(self.args.output_dir))
        os.makedirs(folder, exist_ok=True)
        assert isinstance(self.loss, nn.Module)
        write_weights(weights_of(self.loss), folder / WEIGHTS)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        assert isinstance(self.loss, nn.Module)
        put_weights(read_weights(Path(resume_from_checkpoint)), weights_of(self.loss))


class Watch(TrainerCallback):
    """Follows the steps: reports progress, closes epochs, keeps the best weights, stops early, asks for checkpoints."""

    def __init__(
        self,
        loss: nn.Module,
        score: Callable[[], float] | None,
        checkpoints: Checkpoints,
        progress: Progress,
        *,
        dev_rows: int,
        steps_an_epoch: int,
        patience: int,
        slack: float,
        stop_after: int,
        checkpoint_seconds: float,
    ) -> None:
        """`loss` yields a batch's loss when called; `score` is the present weights' dev score on `dev_rows` texts."""
        self.weights = weights_of(loss)
        self.score, self.dev_rows, self.checkpoints, self.progress = score, dev_rows, checkpoints, progress
        self.steps_an_epoch, self.patience, self.checkpoint_seconds = steps_an_epoch, patience, checkpoint_seconds
        self.epochs: list[Epoch] = []
        self.slack, self.stop_after = slack, stop_after
        self.best_epoch = 0
        self.best: dict[str, Tensor] | None = None
        self.losses: list[float] = []
        self.before = 0.0  # seconds of the present epoch that passed before a kill
        self.started = self.saved = time.monotonic()
        loss.register_forward_hook(lambda module, given, result: self.losses.append(float(result.detach())))

    def resume(self, checkpoint: Path) -> None:
        """Take up the course where the checkpoint left it."""
        course, self.best = read_course(checkpoint)
        self.epochs = [Epoch(**epoch) for epoch in course["epochs"]]
        self.best_epoch, self.losses, self.before = course["best_epoch"], course["losses"], course["seconds"]

    def history(self) -> History:
        """The epochs so far."""
        return History(tuple(self.epochs), self.best_epoch)

    def restore_best(self) -> None:
        """Put the best epoch's weights back, unless they are the present ones."""
        if self.best is not None and self.best_epoch != len(self.epochs):
            put_weights(self.best, self.weights)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Start the clocks."""
        self.started = self.saved = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """After each step: check the loss, close the epoch where it ends, save where it is time.

        Raises SettingError when the loss is not a number any more.
        """
        if not math.isfinite(self.losses[-1]):
            raise SettingError(
                f"training diverged: the loss became {self.losses[-1]} at step {state.global_step} of "
                f"{state.max_steps}; lower learning_rate (now {args.learning_rate:g})"
            )
        self.progress.update(state.global_step, state.max_steps, f"loss {self._mean_loss():.3f}")
        if state.global_step % self.steps_an_epoch == 0:
            self._close_epoch(control)
        over = control.should_training_stop or state.global_step >= state.max_steps
        if not over and time.monotonic() - self.saved >= self.checkpoint_seconds:
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The trainer has written its part of a checkpoint: add ours."""
        course = {
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "best_epoch": self.best_epoch,
            "losses": self.losses,
            "seconds": self._seconds(),
        }
        self.checkpoints.complete(state.global_step, course, self.best)
        self.saved = time.monotonic()

    def _close_epoch(self, control: TrainerControl) -> None:
        score = None if self.score is None else self.score()
        number = len(self.epochs) + 1
        self.epochs.append(Epoch(number, self._mean_loss(), score, self._seconds()))
        self.losses, self.before, self.started = [], 0.0, time.monotonic()
        if number == self.stop_after:
            control.should_training_stop = True
        if score is None:
            self.best_epoch = number
            return
        best = max(epoch.dev_score for epoch in self.epochs if epoch.dev_score is not None)
        # Of epochs that the dev rows cannot tell apart the later one: it has learnt for longer, at a lower rate.
        share = min(max(best, 0.0), 1.0)
        if score >= best - self.slack * math.sqrt(share * (1 - share) / self.dev_rows):
            self.best_epoch, self.best = number, copy_of(self.weights)
        if self.patience and number - self.best_epoch >= self.patience:
            control.should_training_stop = True

    def _mean_loss(self) -> float:
        return sum(self.losses) / len(self.losses)

    def _seconds(self) -> float:
        return self.before + time.monotonic() - self.started
