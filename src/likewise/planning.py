"""What a user's settings make of a recipe: the stages that are trained, and whether a second data set is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from likewise.errors import SettingError
from likewise.recipes import RECIPES, Recipe
from likewise.settings import Settings
from likewise.training.schedule import Schedule

OBJECTIVES = {
    "in-batch": "alignment",
    "pairs": "cosine_pairs",
    "contrastive": "contrastive_pairs",
    "triplet": "triplet",
}
"""The setting `objective`, and the weight of a schedule that it stands for."""

TRAINING = ("epochs", "batch_size", "learning_rate")
"""Settings that stand for fields of every schedule."""

CONTRAST: Mapping[str, Mapping[str, str]] = {
    "contrastive": {
        "contrastive_temperature": "temperature",
        "projection": "projection",
        "preservation": "preservation",
        "batches": "batches",
        "per_class": "per_class",
    },
    "multilabel_contrastive": {
        "contrastive_temperature": "temperature",
        "shared_labels": "shared_labels",
        "gamma": "multilabel_contrastive",
    },
    "siamese": {"siamese_pairs": "siamese_pairs"},
}
"""Objectives that contrast embeddings; the settings of each, and the fields of a schedule that they stand for.

A weight comes last: set to 0 it would hide that the stage contrasts at all.
"""

CONTRASTING = tuple(dict.fromkeys(name for fields in CONTRAST.values() for name in fields))
"""The settings of contrast, each once."""


def planned(recipe: Recipe, few: bool, settings: Settings, scratch: bool = False) -> tuple[Schedule, ...]:
    """The stages for this many examples, with what the user set in place of the recipe's own.

    `scratch`: the encoder starts from nothing, and so learns as fast as a classifier does. SettingError for an
    objective where the recipe aligns nothing, for contrast where it contrasts nothing, and for an encoder from nothing
    where the recipe would use it before it has learnt anything.
    """
    if scratch and (recipe.frozen_too or not recipe.stages or any(stage.frozen for stage in recipe.stages[:1])):
        raise SettingError(
            f"encoder: recipe {recipe.name!r} uses the encoder as it comes, and this one starts from nothing; recipes "
            "that train it are " + recipes_with(lambda stage: not stage.frozen, lambda recipe: not recipe.frozen_too)
        )
    if scratch and settings.pooling is not None:
        raise SettingError(
            f"pooling: found {settings.pooling!r}, expected none; a network over words has a way of its own"
        )
    given: dict[str, Any] = {name: value for name in TRAINING if (value := getattr(settings, name)) is not None}
    if "epochs" in given:
        given.update(min_steps=0, max_steps=0)  # who names the epochs means them
    stages = recipe.few if few and recipe.few else recipe.stages
    if scratch:
        stages = tuple(replace(stage, learning_rate=stage.head_learning_rate) for stage in stages)
    stages = tuple(replace(stage, **given) for stage in stages)
    return _aligned(recipe, _contrasted(recipe, stages, settings), settings)


def of_use(plan: Recipe, values: Mapping[str, Any]) -> dict[str, Any]:
    """Of some settings, those that the recipe has a use for: not those of contrast, or of the objective of alignment,
    where it does neither."""
    stages = (*plan.stages, *plan.few)

    def useful(name: str) -> bool:
        if name == "objective":
            return any(stage.alignment for stage in stages)
        return name not in CONTRASTING or any(_contrasts(stage, name) for stage in stages)

    return {name: value for name, value in values.items() if useful(name)}


def check_source(recipe: Recipe, given: bool) -> None:
    """SettingError where a second data set is missing, or is none of the recipe's business."""
    if recipe.needs_source and not given:
        raise SettingError(
            f"source: found none, but recipe {recipe.name!r} learns from a second data set, too; give its labelled "
            "texts (--source DATA)"
        )
    if given and not recipe.needs_source:
        raise SettingError(
            f"source: recipe {recipe.name!r} learns from no second data set; recipes that do are "
            + recipes_with(lambda stage: stage.data != "target")
        )


def check_training(recipe: Recipe, given: Mapping[str, object]) -> None:
    """SettingError where a recipe that trains nothing is told how to.

    It is for whoever names recipe and settings in one breath; settings that are kept or searched over may be idle.
    """
    if not recipe.stages and (idle := next((name for name in TRAINING if name in given), None)):
        others = recipes_with(lambda stage: True)
        raise SettingError(f"{idle}: recipe {recipe.name!r} trains nothing; recipes that do are {others}")


def _contrasted(recipe: Recipe, stages: tuple[Schedule, ...], settings: Settings) -> tuple[Schedule, ...]:
    """The stages with other settings where they contrast embeddings."""
    for name in CONTRASTING:
        value = getattr(settings, name)
        if value is None:
            continue
        if not any(_contrasts(stage, name) for stage in stages):
            others = recipes_with(lambda stage, name=name: bool(_contrasts(stage, name)))  # type: ignore[misc]
            raise SettingError(f"{name}: recipe {recipe.name!r} has no use for it; recipes that do are {others}")
        stages = tuple(
            replace(stage, **{CONTRAST[kind][name]: value for kind in _contrasts(stage, name)}) for stage in stages
        )
    if settings.per_class is not None and not any(stage.batches == "m-per-class" for stage in stages):
        raise SettingError("per_class: found it with stratified batches, expected batches 'm-per-class'; leave it out")
    return stages


def _contrasts(stage: Schedule, name: str) -> list[str]:
    """The objectives of a stage that a setting of contrast concerns."""
    return [kind for kind, fields in CONTRAST.items() if getattr(stage, kind) and name in fields]


def _aligned(recipe: Recipe, stages: tuple[Schedule, ...], settings: Settings) -> tuple[Schedule, ...]:
    """The stages with another objective where they align embeddings."""
    if settings.objective is None:
        return stages
    if not any(stage.alignment for stage in stages):
        others = recipes_with(lambda stage: stage.alignment > 0)
        raise SettingError(f"objective: recipe {recipe.name!r} aligns no embeddings; recipes that do are {others}")
    weight = OBJECTIVES[settings.objective]

    def other(stage: Schedule) -> Schedule:
        weights: dict[str, Any] = {"alignment": 0.0, weight: stage.alignment}
        return replace(stage, **weights) if stage.alignment else stage

    return tuple(map(other, stages))


def recipes_with(which: Callable[[Schedule], bool], also: Callable[[Recipe], bool] = lambda recipe: True) -> str:
    """The names of the recipes with such a stage that are so themselves."""
    return ", ".join(name for name, recipe in RECIPES.items() if any(map(which, recipe.stages)) and also(recipe))
