"""What a schedule's weights stand for: the objectives, each with its weight, as one loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

from likewise.training.determinism import native_bfloat16
from likewise.training.losses.alignment import ClassDrivenAlignment
from likewise.training.losses.classification import Classification
from likewise.training.losses.contrastive import SupervisedContrastive
from likewise.training.losses.contrastive_pairs import ContrastivePairs
from likewise.training.losses.cosine_pairs import CosinePairs
from likewise.training.losses.joint import Joint
from likewise.training.losses.multilabel_contrastive import MultiLabelContrastive
from likewise.training.losses.objective import Objective
from likewise.training.losses.preservation import Preservation
from likewise.training.losses.reconstruction import Reconstruction
from likewise.training.losses.siamese import SiameseDistance
from likewise.training.losses.triplet import TripletRanking
from likewise.training.modules.words import WordNetwork
from likewise.training.schedule import Schedule
from likewise.training.scoring import Targets
from likewise.types import Task

CLASSIFIER, SOURCE_CLASSIFIER, CONTRASTIVE = "classifier", "source_classifier", "contrastive"
STARTING = (rf"{CLASSIFIER}\.classifier", rf"{SOURCE_CLASSIFIER}\.classifier", rf"{CONTRASTIVE}\.projection")
"""Names (patterns) of the layers that start from nothing, or from a probe, and learn faster than an encoder."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A linear classifier on embeddings: `weights` (d, L) and `bias` (L,), float64."""

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Beside:
    """Another task that is learnt at the same time: texts (m,), their multi-hot targets (m, L'), its kind."""

    texts: Sequence[str]
    targets: Targets
    task: Task


def objective(
    model: SentenceTransformer,
    n_labels: int,
    task: Task,
    schedule: Schedule,
    *,
    scored: bool,
    beside: Beside | None = None,
    probe: Layer | None = None,
    siamese: Dense | None = None,
) -> Joint:
    """The schedule's weighted objectives. Where `scored`, a classifier is among them even if it teaches nothing; it
    starts from `probe`, or from nothing."""
    parts: dict[str, tuple[float, Objective]] = {}
    if schedule.cross_entropy or (scored and schedule.select != "spearman"):
        teaches = schedule.cross_entropy > 0
        columns = (0, n_labels) if beside else None
        made = _classification(model, n_labels, task, schedule, detached=not teaches, columns=columns, probe=probe)
        parts[CLASSIFIER] = (schedule.cross_entropy if teaches else 1.0, made)
    if beside:
        columns = (n_labels, n_labels + (more := beside.targets.shape[1]))
        made = _classification(model, more, beside.task, schedule, columns=columns, layer=True)
        parts[SOURCE_CLASSIFIER] = (schedule.cross_entropy, made)
    if schedule.alignment:
        parts["alignment"] = (schedule.alignment, ClassDrivenAlignment(model))
    if schedule.cosine_pairs:
        parts["cosine_pairs"] = (schedule.cosine_pairs, CosinePairs(model))
    if schedule.contrastive_pairs:
        parts["contrastive_pairs"] = (schedule.contrastive_pairs, ContrastivePairs(model))
    if schedule.triplet:
        parts["triplet"] = (schedule.triplet, TripletRanking(model))
    if schedule.contrastive:
        loss = SupervisedContrastive(model, schedule.temperature, schedule.projection)
        parts[CONTRASTIVE] = (schedule.contrastive, loss)
    if schedule.multilabel_contrastive:
        counted = schedule.shared_labels == "counted"
        loss_of_sets = MultiLabelContrastive(model, schedule.temperature, counted)
        parts["multilabel_contrastive"] = (schedule.multilabel_contrastive, loss_of_sets)
    if schedule.siamese:
        parts["siamese"] = (schedule.siamese, SiameseDistance(model))
    if schedule.reconstruction and siamese is not None:
        parts["reconstruction"] = (schedule.reconstruction, Reconstruction(model, siamese, siamese.in_features))
    if schedule.preservation:
        parts["preservation"] = (schedule.preservation, Preservation(model, native_bfloat16()))
    return Joint(model, parts)


def _classification(
    model: SentenceTransformer,
    n_labels: int,
    task: Task,
    schedule: Schedule,
    *,
    columns: tuple[int, int] | None,
    detached: bool = False,
    probe: Layer | None = None,
    layer: bool = False,
) -> Classification:
    """A classifier of some of the labels; the network's own if it is one, unless a `layer` is asked for."""
    own = not (detached or layer or probe) and isinstance(model[0], WordNetwork) and model[0].labels > 0
    made = Classification(
        model, n_labels, task, schedule.dropout, schedule.label_smoothing, detached, columns, probe is not None, own
    )
    if probe is not None and made.classifier is not None:
        with torch.no_grad():
            made.classifier.weight.copy_(torch.from_numpy(probe.weights.T))
            made.classifier.bias.copy_(torch.from_numpy(probe.bias))
    return made


def classification_of(loss: Joint) -> Classification:
    """The classifier of the task that the encoder is trained for, where there is one."""
    part = loss.parts[CLASSIFIER]
    assert isinstance(part, Classification)
    return part
