"""Fine-tuning an encoder on labelled texts: the batches, the trainer, and the end of it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.modules import Dense
from transformers import PrinterCallback

from likewise.errors import DataError, LabelError, SettingError
from likewise.progress import Progress
from likewise.training.balanced_sampling import PerClassBatchSampler, StratifiedBatchSampler
from likewise.training.checkpoints import Checkpoints, digest, put_weights, step_of, weights_of
from likewise.training.cpu_modules import cpu_modules
from likewise.training.determinism import contained, native_bfloat16
from likewise.training.losses.joint import Joint
from likewise.training.objectives import STARTING, Beside, Layer, classification_of, objective
from likewise.training.pair_sampling import PairBatchSampler
from likewise.training.remembered import Memory, remembered
from likewise.training.sampling import ClassAwareBatchSampler
from likewise.training.schedule import Schedule
from likewise.training.scoring import Targets, classifier_score, pair_score
from likewise.training.siamese_pairs import SiamesePairSampler
from likewise.training.trainer import EncoderTrainer, Epoch, History, Watch
from likewise.types import Task

__all__ = ["Beside", "Epoch", "History", "Layer", "Trained", "fine_tune"]


@dataclass(frozen=True, eq=False)
class Trained:
    """What a fit of the encoder brought: its history, and the classifier that it taught, if any.

    It takes embeddings that are not normalised, unless it started from one that takes them normalised. Where the
    network is a classifier of its own (`own`) it takes its logits, as they are.
    """

    history: History
    classifier: Layer | None = None
    own: bool = False


def fine_tune(
    model: SentenceTransformer,
    texts: Sequence[str],
    targets: Targets,
    *,
    task: Task,
    schedule: Schedule,
    dev_texts: Sequence[str] | None = None,
    dev_targets: Targets | None = None,
    beside: Beside | None = None,
    probe: Layer | None = None,
    siamese: Dense | None = None,
    memory: Memory | None = None,
    seed: int,
    work: Path,
    progress: Progress,
    checkpoint_seconds: float = 30.0,
    stop_after: int = 0,
) -> Trained:
    """Train `model` in place on texts (n,) and their multi-hot targets (n, L).

    With dev texts, each epoch ends with their score (`schedule.select`). The weights of the last epoch whose score
    cannot be told from the best (within `schedule.slack` standard errors) are kept, and training stops after
    `schedule.patience` epochs below that. Without dev texts the last epoch's weights are kept; `stop_after` says
    which is the last, as if the others followed (0: all are trained). With `beside` the encoder learns that task as
    well in the same batches, by a classifier of its own, which is not kept; dev texts score this task alone. `probe` is
    where the classifier starts, for embeddings of length 1. `siamese` is what a reconstruction is seen through; where
    the schedule has one, the model is `TwoEncoders` and a layer behind them. `memory` keeps what encoders that stand
    still say of the texts, for the next stage.

    A checkpoint is written into a folder of its own under `work` whenever `checkpoint_seconds` have passed since
    the last, and at the end the result. A second call with the same arguments goes on from there, or has the result at
    once, and ends with the same weights; `work` is the caller's to remove. Global random state and torch's settings are
    left as they were.

    Raises LabelError for fewer than two classes, DataError for texts and targets that do not fit together, and
    SettingError when the loss diverges.
    """
    train = _Rows(texts, targets)
    train.check(task, targets.shape[-1])
    if beside is not None:
        _Rows(beside.texts, beside.targets).check(beside.task, beside.targets.shape[-1])
    used = int((targets > 0).any(axis=0).sum())
    if used < 2:
        raise LabelError(f"found {used} class with examples; expected at least two: add examples of another class")
    dev = None
    if dev_texts is not None and dev_targets is not None and len(dev_texts):
        dev = _Rows(dev_texts, dev_targets)
        dev.check(task, targets.shape[-1])
    if schedule.stands_still:
        known = [*texts, *(dev_texts or ()), *(beside.texts if beside else ())]
        whole, model = model, remembered(model, known, schedule.layers, memory)
    else:
        whole = model
    device, attributes = model.device, set(model.__dict__)
    with contained(seed):
        checkpoints = Checkpoints(
            work / "fine-tuning", _identity(whole, siamese, train, dev, beside, probe, task, schedule, seed, stop_after)
        )
        loss = objective(
            model, targets.shape[1], task, schedule,
            scored=dev is not None, beside=beside, probe=probe, siamese=siamese,
        )  # fmt: skip
        if finished := checkpoints.finished():
            put_weights(finished[0], weights_of(loss))
            return _trained(loss, schedule, History.read(finished[1]))
        try:
            with nullcontext() if _on_gpu(schedule) else cpu_modules(loss):
                history = _train(
                    model,
                    loss,
                    _joined(train, task, beside),
                    dev,
                    task,
                    schedule,
                    seed,
                    checkpoints,
                    checkpoint_seconds,
                    stop_after,
                    progress,
                )
        except SettingError:  # diverged: going on from a checkpoint would end the same
            checkpoints.remove()
            raise
        finally:
            _leave(model, device, attributes)
        checkpoints.finish(weights_of(loss), asdict(history))
    return _trained(loss, schedule, history)


def _trained(loss: Joint, schedule: Schedule, history: History) -> Trained:
    if not schedule.cross_entropy:
        return Trained(history)
    classification = classification_of(loss)
    layer = classification.classifier
    if layer is None:
        return Trained(history, Layer(np.eye(classification.n_labels), np.zeros(classification.n_labels)), own=True)
    weights, bias = (part.detach().cpu().double().numpy() for part in (layer.weight, layer.bias))
    return Trained(history, Layer(weights.T.copy(), bias.copy()))


@dataclass(frozen=True)
class _Rows:
    """Texts (n,) and multi-hot targets (n, L)."""

    texts: Sequence[str]
    targets: Targets

    def check(self, task: Task, n_labels: int) -> None:
        """Raise DataError unless there is a row a text, with exactly one label where the task says so."""
        if self.targets.shape != (len(self.texts), n_labels):
            raise DataError(
                f"found {len(self.texts)} texts and targets of shape {self.targets.shape}; "
                f"expected shape {(len(self.texts), n_labels)}"
            )
        counts = (self.targets > 0).sum(axis=1)
        if task == "single" and (counts != 1).any():
            row = int(np.flatnonzero(counts != 1)[0])
            raise DataError(f"row {row} of the targets has {counts[row]} labels; a single-label task takes exactly one")


def _joined(train: _Rows, task: Task, beside: Beside | None) -> Dataset:
    """Texts with their labels as the objectives take them; of two tasks each has NaN in the other's columns."""
    if beside is None:
        labels = train.targets.argmax(axis=1) if task == "single" else train.targets
        return Dataset.from_dict({"text": list(train.texts), "label": labels.tolist()})
    (n, width), (m, more) = train.targets.shape, beside.targets.shape
    table = np.full((n + m, width + more), np.nan, dtype=np.float32)
    table[:n, :width], table[n:, width:] = train.targets, beside.targets
    return Dataset.from_dict({"text": [*train.texts, *beside.texts], "label": table.tolist()})


def _train(
    model: SentenceTransformer,
    loss: Joint,
    data: Dataset,
    dev: _Rows | None,
    task: Task,
    schedule: Schedule,
    seed: int,
    checkpoints: Checkpoints,
    checkpoint_seconds: float,
    stop_after: int,
    progress: Progress,
) -> History:
    """Run the trainer, from the last checkpoint if there is one, and put the best weights back."""
    sampling = _sampling(schedule)
    loss.parted = not _on_gpu(schedule) and sampling is not ClassAwareBatchSampler  # which heeds lengths itself
    size = schedule.batch_size // 2 if schedule.pairs else schedule.batch_size
    lengths = token_counts(model, list(data["text"]))
    a_pass = len(sampling(data, size, lengths=lengths))
    epochs, passes = schedule.course(a_pass)
    watch = Watch(
        loss,
        None if dev is None else _scorer(model, loss, dev, task, schedule, seed),
        checkpoints,
        progress,
        dev_rows=len(dev.texts) if dev else 0,
        steps_an_epoch=a_pass * passes,
        patience=schedule.patience,
        slack=schedule.slack,
        stop_after=stop_after,
        checkpoint_seconds=checkpoint_seconds,
    )
    checkpoint = checkpoints.latest()
    if checkpoint is not None:
        watch.resume(checkpoint)
        progress.tell(f"Training goes on after step {step_of(checkpoint)}, where it was interrupted.")
    sampler = partial(sampling, lengths=lengths, passes=passes)
    arguments = _arguments(schedule, size, epochs, seed, checkpoints.folder, sampler)
    starting = [name for name in STARTING if _has(loss, name)]
    arguments.learning_rate_mapping = {rf"\.{name}\.": schedule.head_learning_rate for name in starting}
    trainer = EncoderTrainer(model=model, args=arguments, train_dataset=data, loss=loss, callbacks=[watch])
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    watch.restore_best()
    return watch.history()


def _sampling(schedule: Schedule) -> Any:
    """What makes the batches."""
    if schedule.siamese:
        return partial(SiamesePairSampler, pairs=schedule.siamese_pairs)
    if schedule.pairs:
        return PairBatchSampler
    if schedule.batches == "m-per-class":
        return partial(PerClassBatchSampler, per_class=schedule.per_class)
    return StratifiedBatchSampler if schedule.batches == "stratified" else ClassAwareBatchSampler


def _has(loss: Joint, name: str) -> bool:
    """Whether there are weights of that name (a pattern)."""
    return any(re.search(rf"parts\.{name}\.", weight) for weight, _ in loss.named_parameters())


def _scorer(
    model: SentenceTransformer, loss: Joint, dev: _Rows, task: Task, schedule: Schedule, seed: int
) -> Callable[[], float]:
    """What scores the dev texts, as the schedule says."""
    if schedule.select == "spearman":
        return partial(pair_score, model, dev.texts, dev.targets, seed)
    classification = classification_of(loss)
    classify = None if classification.classifier is None else classification.logits
    return partial(classifier_score, model, classify, dev.texts, dev.targets, task, schedule.select)


def _arguments(
    schedule: Schedule, size: int, epochs: int, seed: int, folder: Path, sampler: Any
) -> SentenceTransformerTrainingArguments:
    """The trainer's arguments, for batches of `size` (texts, or pairs of them).

    Nothing is logged, evaluated or saved but what `Watch` asks for.
    """
    on_gpu = _on_gpu(schedule)
    return _Arguments(
        output_dir=str(folder),
        num_train_epochs=epochs,
        per_device_train_batch_size=size,
        # Layers on encoders that stand still start from nothing, as a classifier does.
        learning_rate=schedule.head_learning_rate if schedule.layers else schedule.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=schedule.warmup,
        weight_decay=schedule.weight_decay,
        max_grad_norm=1.0,
        optim="adamw_torch_fused",
        bf16=native_bfloat16() and not schedule.stands_still,  # so few numbers are not worth their digits
        use_cpu=not on_gpu,
        seed=seed,
        batch_sampler=sampler,
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,
        eval_strategy="no",
        save_strategy="no",
        logging_strategy="no",
        log_level="error",
        report_to="none",
        disable_tqdm=True,
    )


class _Arguments(SentenceTransformerTrainingArguments):
    """With a warm-up that leaves a step to train in: the first one's rate is nought."""

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Steps of the warm-up."""
        return min(int(super().get_warmup_steps(num_training_steps)), num_training_steps - 1)


def _on_gpu(schedule: Schedule) -> bool:
    """Whether a stage is trained on a GPU: where there is one, but for a classifier alone, the work of moments."""
    return torch.cuda.is_available() and not schedule.frozen


def _leave(model: SentenceTransformer, device: torch.device, attributes: set[str]) -> None:
    """Undo what the trainer did to the model besides training it; `attributes` are those it had before."""
    # Mixed precision wraps the forward method, in the instance, and a mark would keep the next fit from doing so.
    for added in set(model.__dict__) - attributes:
        delattr(model, added)
    model.requires_grad_(True)
    model.zero_grad(set_to_none=True)
    model.to(device)
    model.eval()


def token_counts(model: SentenceTransformer, texts: Sequence[str], chunk: int = 1000) -> NDArray[np.int64]:
    """Each text's length in tokens as the encoder will see it, truncated; in characters if it has no attention mask."""
    counts = []
    for start in range(0, len(texts), chunk):
        part = list(texts[start : start + chunk])
        mask = model.preprocess(part).get("attention_mask")
        counts.append(np.array([len(text) for text in part]) if mask is None else mask.sum(dim=1).cpu().numpy())
    return np.concatenate(counts).astype(np.int64)


def _configuration(module: torch.nn.Module) -> str:
    """What a module is made with, where it tells."""
    told: dict[str, Any] = getattr(module, "get_config_dict", dict)()
    return json.dumps(told, sort_keys=True, default=str)


def _identity(
    model: SentenceTransformer,
    siamese: Dense | None,
    train: _Rows,
    dev: _Rows | None,
    beside: Beside | None,
    probe: Layer | None,
    task: Task,
    schedule: Schedule,
    seed: int,
    stop_after: int,
) -> str:
    """A digest of everything that the fit's result depends on."""
    sets: list[_Rows | Beside] = [rows for rows in (train, dev, beside) if rows is not None]
    facts = {
        "task": [task, beside.task if beside else None],
        "schedule": asdict(schedule),
        "seed": seed,
        "stop_after": stop_after,
        "bfloat16": native_bfloat16(),
        "torch": torch.__version__,
        "max_tokens": model.max_seq_length,
        # What has no weights: pooling, activations.
        "modules": [[type(module).__name__, _configuration(module)] for module in model],
        "shapes": [rows.targets.shape for rows in sets],
    }
    return digest(
        chain(
            [json.dumps(facts, sort_keys=True).encode()],
            (text.encode(errors="surrogatepass") for rows in sets for text in rows.texts),
            (np.ascontiguousarray(rows.targets, dtype=np.float32).tobytes() for rows in sets),
            [] if probe is None else [probe.weights.tobytes(), probe.bias.tobytes()],
            (
                tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()
                for network in (model, siamese)
                if network is not None
                for tensor in network.parameters()
            ),
        )
    )
