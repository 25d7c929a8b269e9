"""The recipes: what they are, and what the user's settings change of their schedules."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from likewise.errors import SettingError
from likewise.recipes import FROZEN, RECIPES, recipe_named
from likewise.settings import Settings

TRAINING = [recipe.name for recipe in RECIPES.values() if recipe.schedule]


def test_every_recipe_is_found_by_its_name_and_says_what_it_is() -> None:
    assert next(iter(RECIPES)) == "likewise"  # the default comes first
    assert {"likewise", "frozen"} <= RECIPES.keys()
    for name, recipe in RECIPES.items():
        assert recipe_named(name) is recipe and recipe.name == name
        assert recipe.objective and recipe.use and recipe.source
        assert (recipe.schedule is None) == (recipe.few is None)


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
    own = recipe.few if few else recipe.schedule
    assert own is not None
    assert recipe.planned(few, Settings()) == own
    planned = recipe.planned(few, Settings(batch_size=7, learning_rate=0.5))
    assert planned == replace(own, batch_size=7, learning_rate=0.5)


def test_who_names_the_epochs_gets_them() -> None:
    """However few or many steps that makes; the recipe's bounds are for those who leave it to the recipe."""
    for name in TRAINING:
        for few in (True, False):
            planned = RECIPES[name].planned(few, Settings(epochs=5))
            assert planned is not None
            assert (planned.epochs, planned.min_steps, planned.max_steps) == (5, 0, 0)


def test_the_frozen_recipe_trains_nothing_whatever_is_set() -> None:
    for few in (True, False):
        assert FROZEN.planned(few, Settings(epochs=3, batch_size=8, learning_rate=0.1)) is None


@pytest.mark.parametrize("name", TRAINING)
def test_schedules_are_plain_data(name: str) -> None:
    for few in (True, False):
        planned = RECIPES[name].planned(few, Settings())
        assert planned is not None
        assert type(planned)(**json.loads(json.dumps(asdict(planned)))) == planned
