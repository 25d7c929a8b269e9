"""How long, how fast and towards what an encoder is trained: plain data, written in the model.

Imports nothing heavy, so that recipes can name schedules without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from likewise.errors import SettingError
from likewise.types import Batches, LearntFrom, Projection, SharedLabels, SiamesePairs, Trains

Select = Literal["macro_f1", "micro_f1", "accuracy", "spearman"]

OBJECTIVES = (
    "cross_entropy", "alignment", "cosine_pairs", "contrastive_pairs", "triplet", "contrastive",
    "multilabel_contrastive", "siamese", "reconstruction",
)  # fmt: skip
"""The weights of the objectives that teach."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """One course of fine-tuning. Frozen and hashable; `dataclasses.asdict` gives JSON, `Schedule(**that)` reads it.

    The objective is the weighted sum of those below whose weight is not 0. Where one of them takes pairs of texts,
    the batches are CEA's Algorithm 1: for each text a positive and a negative, so four texts are encoded for one.
    """

    epochs: int = 4
    """Times that training scores the dev texts, each after seeing every text `passes` times (see `min_steps`)."""
    learning_rate: float = 1e-4
    """The encoder's highest learning rate (AdamW)."""
    head_learning_rate: float = 1e-3
    """The same for the classifier, which starts from nothing."""
    batch_size: int = 64
    """Texts a step, give or take two: batches are cut where no pair of a class is torn apart."""
    warmup: float = 0.1
    """Share of the steps, 0 to below 1, in which the learning rate rises; afterwards it falls linearly to 0."""
    weight_decay: float = 0.01
    """AdamW's, on all but biases and normalisation layers."""
    probe: bool = False
    """The classifier starts as the closed-form head of the encoder as it is, on embeddings of length 1, and not from
    nothing: linear probing, then fine-tuning (Kumar et al. 2022). What it does not have to learn the encoder need not
    bend to, so that it keeps more of what it knew, which serves classes that are taught later."""
    dropout: float = 0.1
    """Share of the embedding's values hidden from the classifier at each step, 0 to below 1."""
    label_smoothing: float = 0.0
    """Share of the target's mass spread over all labels, 0 to below 1."""
    cross_entropy: float = 1.0
    """Weight of the classifier's loss, binary with several labels a text. At 0 the classifier only watches: it scores
    the dev texts, nothing more."""
    alignment: float = 0.0
    """Weight of class-driven alignment (CEA, eq. 2) over all pairs of a batch."""
    cosine_pairs: float = 0.0
    """Weight of the same over sampled pairs, as CEA has it."""
    contrastive_pairs: float = 0.0
    """Weight of the contrastive loss over sampled pairs (Hadsell et al. 2006, eq. 4)."""
    triplet: float = 0.0
    """Weight of the triplet loss with the hardest positive and negative of a batch (Hermans et al. 2017, eq. 5)."""
    contrastive: float = 0.0
    """Weight of the supervised contrastive loss (Khosla et al. 2020, eq. 2)."""
    multilabel_contrastive: float = 0.0
    """Weight of the multi-label contrastive loss (multi-label kNN, eq. 2), a sum over the batch."""
    shared_labels: SharedLabels = "counted"
    """How alike two texts are to the multi-label contrastive loss (its beta, eq. 3)."""
    temperature: float = 0.1
    """The contrastive losses', over 0."""
    projection: Projection = "none"
    """What the supervised contrastive loss compares."""
    preservation: float = 0.0
    """Weight of the mean squared difference to the embeddings before this stage."""
    batches: Batches = "class-aware"
    """How texts come together in a batch, where they come one by one."""
    per_class: int = 4
    """Texts of each class in a batch "m-per-class"; `batch_size` is as many times the classes in it."""
    siamese: float = 0.0
    """Weight of the Siamese network's loss (common-space transfer, Algorithm 1, line 6)."""
    siamese_pairs: SiamesePairs = "random"
    """Which pairs the Siamese network compares."""
    reconstruction: float = 0.0
    """Weight of the reconstruction of the encoder's embedding, as the Siamese network sees it (the same, line 12)."""
    trains: Trains = "encoder"
    """Which part of the network it trains."""
    data: LearntFrom = "target"
    """Which labelled texts it learns from; from both at once by cross-entropy alone, with a classifier for each."""
    frozen: bool = False
    """Train the classifier alone and leave the encoder as it is."""
    select: Select = "macro_f1"
    """What scores the dev texts after an epoch: the classifier's F1 or accuracy, or how well the cosines of
    pairs of dev texts tell same classes from different ones (Spearman's correlation, as CEA has it)."""
    slack: float = 1.0
    """Standard errors by which an epoch's dev score may miss the best for its weights to be kept, being trained for
    longer; 0: the best are kept."""
    patience: int = 2
    """Epochs with a dev score clearly below the best after which training stops; 0: it never stops early."""
    min_steps: int = 0
    """Fewest steps in all: with few texts an epoch passes over them as often as it takes to get there."""
    max_steps: int = 0
    """Most steps in all: with many texts there are fewer epochs, but never under two; 0: as many as it takes."""

    def __post_init__(self) -> None:
        """Raise SettingError for the first value that cannot be."""
        for name, low in (
            ("epochs", 1),
            ("batch_size", 2),
            ("per_class", 2),
            ("patience", 0),
            ("min_steps", 0),
            ("max_steps", 0),
        ):
            if getattr(self, name) < low:
                raise SettingError(f"{name} is {getattr(self, name)}; expected {low} or more")
        for name in ("learning_rate", "head_learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} is {getattr(self, name)}; expected a number over 0")
        for name in ("weight_decay", "slack", "preservation", *OBJECTIVES):
            if not getattr(self, name) >= 0:
                raise SettingError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("warmup", "dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}; expected 0 or more and less than 1")
        if not any(getattr(self, name) for name in OBJECTIVES):
            raise SettingError(f"{', '.join(OBJECTIVES)} are all 0; give one of them a weight over 0")
        others = [name for name in OBJECTIVES if getattr(self, name) and name != "cross_entropy"]
        if self.data == "both" and others:
            raise SettingError(
                f"{others[0]} is over 0; expected cross_entropy alone where two tasks are learnt at once"
            )
        if self.probe and not self.cross_entropy:
            raise SettingError("probe is set and cross_entropy 0; no classifier is trained that could start from it")
        if self.frozen and not self.cross_entropy:
            raise SettingError("cross_entropy is 0 and the encoder frozen; nothing is left to be trained")
        alone = others == ["siamese"] and not self.cross_entropy
        if alone != (self.trains == "siamese") or (self.siamese and not alone):
            raise SettingError("siamese: expected a weight over 0, alone, where the Siamese network is what is trained")
        if self.reconstruction and self.trains != "common-space":
            raise SettingError("reconstruction is over 0; expected 0 unless a common space is trained")

    @property
    def pairs(self) -> bool:
        """Whether texts come in sampled pairs."""
        return self.cosine_pairs > 0 or self.contrastive_pairs > 0 or self.siamese > 0

    @property
    def layers(self) -> int:
        """How many of the network's last modules are trained on the embeddings of the others, which stand still."""
        return 0 if self.frozen else int(self.trains in ("siamese", "common-space"))

    @property
    def stands_still(self) -> bool:
        """Whether the encoder, or what encoders there are, are left as they are."""
        return self.frozen or self.layers > 0

    def course(self, steps: int) -> tuple[int, int]:
        """Epochs, and passes over the texts in each of them, where one pass takes so many steps."""
        epochs = self.epochs
        if self.max_steps:
            epochs = min(epochs, max(2, self.max_steps // steps))
        return epochs, max(1, -(-self.min_steps // (steps * epochs)))
