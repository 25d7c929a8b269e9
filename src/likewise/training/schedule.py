"""How long, how fast and towards what an encoder is trained: plain data, written in the model.

Imports nothing heavy, so that recipes can name schedules without loading torch.
"""

from __future__ import annotations

from dataclasses import dataclass

from likewise.errors import SettingError


@dataclass(frozen=True, slots=True)
class Schedule:
    """One course of fine-tuning. Frozen and hashable; `dataclasses.asdict` gives JSON, `Schedule(**that)` reads it.

    The objective is `cross_entropy` times the classifier's loss (binary cross-entropy with several labels a text)
    plus `alignment` times class-driven alignment plus `contrastive` times the supervised contrastive loss; an
    objective weighted 0 is left out.
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
    dropout: float = 0.1
    """Share of the embedding's values hidden from the classifier at each step, 0 to below 1."""
    label_smoothing: float = 0.0
    """Share of the target's mass spread over all labels, 0 to below 1."""
    cross_entropy: float = 1.0
    """Weight of the classifier's loss. At 0 the classifier only watches: it scores the dev texts, nothing more."""
    alignment: float = 0.0
    """Weight of class-driven alignment (CEA, eq. 2)."""
    contrastive: float = 0.0
    """Weight of the supervised contrastive loss (Khosla et al. 2020, eq. 2)."""
    temperature: float = 0.1
    """The contrastive loss's, over 0."""
    patience: int = 2
    """Epochs with a dev score clearly below the best after which training stops; 0: it never stops early."""
    min_steps: int = 0
    """Fewest steps in all: with few texts an epoch passes over them as often as it takes to get there."""
    max_steps: int = 0
    """Most steps in all: with many texts there are fewer epochs, but never under two; 0: as many as it takes."""

    def __post_init__(self) -> None:
        """Raise SettingError for the first value that cannot be."""
        for name, low in (("epochs", 1), ("batch_size", 2), ("patience", 0), ("min_steps", 0), ("max_steps", 0)):
            if getattr(self, name) < low:
                raise SettingError(f"{name} is {getattr(self, name)}; expected {low} or more")
        for name in ("learning_rate", "head_learning_rate", "temperature"):
            if not getattr(self, name) > 0:
                raise SettingError(f"{name} is {getattr(self, name)}; expected a number over 0")
        for name in ("weight_decay", "cross_entropy", "alignment", "contrastive"):
            if not getattr(self, name) >= 0:
                raise SettingError(f"{name} is {getattr(self, name)}; expected 0 or more")
        for name in ("warmup", "dropout", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}; expected 0 or more and less than 1")
        if not self.cross_entropy + self.alignment + self.contrastive > 0:
            raise SettingError("cross_entropy, alignment and contrastive are all 0; give one of them a weight over 0")

    def course(self, steps: int) -> tuple[int, int]:
        """Epochs, and passes over the texts in each of them, where one pass takes so many steps."""
        epochs = self.epochs
        if self.max_steps:
            epochs = min(epochs, max(2, self.max_steps // steps))
        return epochs, max(1, -(-self.min_steps // (steps * epochs)))
