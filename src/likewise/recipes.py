"""The recipes: named compositions of objective, pooling, normalisation, head, whitening and vote.

Every recipe ends alike: all examples are encoded, a closed-form head and the neighbours' vote are made from the
embeddings, and what blends them is tuned on held-out examples. They differ in what happens to the encoder before.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from likewise.errors import SettingError, suggestion
from likewise.settings import Settings
from likewise.training.schedule import Schedule
from likewise.types import Pooling


@dataclass(frozen=True)
class Recipe:
    """One composition. `schedule` trains the encoder with many examples, `few` with few; None: it stays as it is.

    `normalise`: embeddings have length 1. `objective`, `use` and `source` are for `likewise recipes` to tell.
    """

    name: str
    objective: str
    use: str
    source: str
    normalise: bool = True
    pooling: Pooling = "auto"
    schedule: Schedule | None = None
    few: Schedule | None = None

    def planned(self, few: bool, settings: Settings) -> Schedule | None:
        """The schedule for this many examples, with what the user set in place of the recipe's own."""
        schedule = self.few if few else self.schedule
        if schedule is None:
            return None
        given = {
            name: value
            for name in ("epochs", "batch_size", "learning_rate")
            if (value := getattr(settings, name)) is not None
        }
        if "epochs" in given:
            given.update(min_steps=0, max_steps=0)  # who names the epochs means them
        return replace(schedule, **given)


FROZEN = Recipe(
    name="frozen",
    objective="none: the encoder stays as it is",
    use="a usable classifier in seconds; a first look at new data",
    source="KNN-EC without fine-tuning (whitened neighbours, blend)",
)

LIKEWISE = Recipe(
    name="likewise",
    objective="cross-entropy and class-driven alignment together, in one forward pass",
    use="the default: the best scores, minutes of training",
    source="CEA (alignment), KNN-EC (whitened neighbours, blend)",
    schedule=Schedule(epochs=4, max_steps=800, cross_entropy=1.0, alignment=1.0),
    few=Schedule(epochs=4, min_steps=40, batch_size=48, cross_entropy=0.0, alignment=1.0),
)

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (LIKEWISE, FROZEN)}


def recipe_named(name: str) -> Recipe:
    """The recipe of this name; SettingError with a suggestion when there is none."""
    if name not in RECIPES:
        hint = suggestion(name, RECIPES) or f"; recipes are {', '.join(RECIPES)}"
        raise SettingError(f"unknown recipe {name!r}{hint}")
    return RECIPES[name]
