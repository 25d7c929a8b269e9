"""The recipes: what they are, and what the user's settings change of their schedules."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from likewise.errors import SettingError
from likewise.planning import OBJECTIVES, planned
from likewise.recipes import FROZEN, RECIPES, WRAPPED, recipe_named
from likewise.settings import Objective, Settings

TRAINING = [recipe.name for recipe in RECIPES.values() if recipe.stages]


def test_every_recipe_is_found_by_its_name_and_says_what_it_is() -> None:
    assert next(iter(RECIPES)) == "likewise"  # the default comes first
    assert {"likewise", "frozen"} <= RECIPES.keys()
    for name, recipe in RECIPES.items():
        assert recipe_named(name) is recipe and recipe.name == name
        assert recipe.objective and recipe.use and recipe.source
        assert recipe.stages or not recipe.few
        if recipe.head == "trained":  # it is a layer on the embedding as the last stage knew it
            assert not recipe.normalise and recipe.stages[-1].cross_entropy > 0
        for stage in (*recipe.stages, *recipe.few):
            assert recipe.normalise or not stage.probe  # the closed-form head sees embeddings as the recipe has them


@pytest.mark.parametrize(
    ("name", "hint"),
    [("likewice", "did you mean 'likewise'"), ("Frozen", "did you mean 'frozen'"), ("", "recipes are")],
)
def test_an_unknown_recipe_is_answered_with_what_there_is(name: str, hint: str) -> None:
    with pytest.raises(SettingError, match=f"unknown recipe {name!r}; {hint}"):
        recipe_named(name)


@pytest.mark.parametrize("few", [True, False])
@pytest.mark.parametrize("name", TRAINING)
def test_the_users_settings_take_the_place_of_the_recipes_own(name: str, few: bool) -> None:
    recipe = RECIPES[name]
    own = recipe.few if few and recipe.few else recipe.stages
    assert planned(recipe, few, Settings()) == own
    made = planned(recipe, few, Settings(batch_size=7, learning_rate=0.5))
    assert made == tuple(replace(stage, batch_size=7, learning_rate=0.5) for stage in own)


def test_who_names_the_epochs_gets_them() -> None:
    """However few or many steps that makes; the recipe's bounds are for those who leave it to the recipe."""
    for name in TRAINING:
        for few in (True, False):
            for stage in planned(RECIPES[name], few, Settings(epochs=5)):
                assert (stage.epochs, stage.min_steps, stage.max_steps) == (5, 0, 0)


def test_the_frozen_recipe_trains_nothing_whatever_is_set() -> None:
    for few in (True, False):
        assert planned(FROZEN, few, Settings(epochs=3, batch_size=8, learning_rate=0.1)) == ()


@pytest.mark.parametrize(("objective", "weight"), OBJECTIVES.items())
def test_another_objective_takes_the_place_of_alignment_alone(objective: Objective, weight: str) -> None:
    made = planned(RECIPES["cea-softmax"], False, Settings(objective=objective))
    aligning, softmax = RECIPES["cea-softmax"].stages
    assert made == (replace(aligning, **{"alignment": 0.0, weight: 1.0}), softmax)
    (both,) = planned(RECIPES["likewise"], False, Settings(objective=objective))
    assert both.cross_entropy == 1.0 and getattr(both, weight) == 1.0


@pytest.mark.parametrize("name", ["frozen", "softmax", "knn-ec"])
def test_a_recipe_that_aligns_nothing_has_no_objective_to_choose(name: str) -> None:
    with pytest.raises(SettingError, match=f"recipe '{name}' aligns no embeddings; recipes that do are likewise, cea"):
        planned(RECIPES[name], False, Settings(objective="triplet"))


def test_settings_of_contrast_reach_the_stages_that_contrast() -> None:
    given = Settings(contrastive_temperature=0.5, projection="linear", preservation=3, per_class=2)
    (made,) = planned(RECIPES["retrofit"], False, given)
    (own,) = RECIPES["retrofit"].stages
    assert made == replace(own, temperature=0.5, projection="linear", preservation=3, per_class=2)
    (made,) = planned(RECIPES["retrofit"], False, Settings(batches="stratified"))
    assert made == replace(own, batches="stratified")
    with pytest.raises(SettingError, match="per_class: found it with stratified batches"):
        planned(RECIPES["retrofit"], False, Settings(batches="stratified", per_class=2))
    given = Settings(contrastive_temperature=0.5, gamma=0, shared_labels="any")
    (made,) = planned(RECIPES["multilabel-knn"], False, given)
    (own,) = RECIPES["multilabel-knn"].stages
    assert made == replace(own, temperature=0.5, multilabel_contrastive=0, shared_labels="any")
    for name, setting in (("cea", "batches"), ("multilabel-knn", "batches"), ("cea", "preservation")):
        value = "stratified" if setting == "batches" else 1
        with pytest.raises(SettingError, match=f"{setting}: recipe '{name}' .*; recipes that do are retrofit"):
            planned(RECIPES[name], False, Settings(**{setting: value}))


def test_a_wrapped_classifier_is_refitted_by_another_recipe() -> None:
    with pytest.raises(SettingError, match="name one of likewise"):
        recipe_named(WRAPPED.name)


@pytest.mark.parametrize("name", TRAINING)
def test_schedules_are_plain_data(name: str) -> None:
    for few in (True, False):
        for stage in planned(RECIPES[name], few, Settings()):
            assert type(stage)(**json.loads(json.dumps(asdict(stage)))) == stage
