"""Keys and values of overrides and sweeps, and what becomes of a recipe."""

from __future__ import annotations

import re

import pytest

from model.config.messages import NAME, ConfigError
from model.config.reading import parse_config
from model.config.sweeps import changed_recipe, combinations, same, variant_name

RECIPE = {"optimiser": {"learning_rate": 0.1}, "batch_size": 2, "clip_norm": None, "network": {"name": "n", "width": 3}}


def config(**experiment: object) -> dict[str, object]:
    entry = {"dataset": "toy", "scenarios": ["6-3"], "recipe": "deeplabv3-micro", "methods": ["mib"], **experiment}
    return {"schema_version": 1, "datasets": {"toy": {"kind": "shapes"}}, "experiments": [entry]}


@pytest.mark.parametrize(
    ("sweep", "said"),
    [
        ({"distillation_weight": [1, 2]}, "'distillation_weight' does not say what to change: write 'method.NAME'"),
        ({"recipe.": [1]}, "'recipe.' does not say what to change"),
        ({"method.distillation_weight": []}, "'method.distillation_weight' is an empty list"),
        ({"method.distillation_weight": 3}, "needs a list of values, got 3; a single value belongs under 'overrides'"),
        ({"method.distillation_weight": [1, 10, 1.0]}, "lists 1.0 twice"),
        ({"recipe.schedule": [{"name": "constant"}]}, "expected a number, a text, a switch or null"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_one_line_with_its_key(sweep: object, said: str):
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        parse_config(config(sweep=sweep))
    assert str(error.value).startswith("config.yaml: experiments[0].sweep: ") and "\n" not in str(error.value)


def test_a_key_cannot_be_overridden_and_swept():
    with pytest.raises(ConfigError, match="under 'overrides' and under 'sweep'"):
        parse_config(config(overrides={"recipe.batch_size": 2}, sweep={"recipe.batch_size": [2, 4]}))


def test_a_switch_is_not_a_number():
    assert same(1, 1.0) and not same(1, True)
    assert parse_config(config(sweep={"method.background_initialisation": [True, False]}))


def test_every_combination_is_there_once():
    assert combinations({"a": [1, 2], "b": [3, 4]}) == [{"a": a, "b": b} for a in (1, 2) for b in (3, 4)]
    assert combinations({}) == [{}]


def test_names_tell_combinations_apart_and_no_configured_name_is_like_them():
    names = {
        variant_name("mib", {"method.weight": value}) for value in (1, 10, 0.1, 1e-05, None, True, "timm/resnet18")
    }
    assert len(names) == 7 and "mib@weight=1e-05" in names
    for name in names:
        assert not re.match(NAME, name) and not re.search(r"[\s/_'\"{}$]", name)


def test_a_recipe_changes_where_the_key_says_and_nowhere_else():
    changed = changed_recipe(RECIPE, {"recipe.optimiser.learning_rate": 0.5, "recipe.clip_norm": 1})
    assert changed == {**RECIPE, "optimiser": {"learning_rate": 0.5}, "clip_norm": 1}
    assert RECIPE["optimiser"] == {"learning_rate": 0.1}


def test_null_removes_an_argument_of_the_network_and_is_a_value_elsewhere():
    assert changed_recipe(RECIPE, {"recipe.network.width": None})["network"] == {"name": "n"}
    assert changed_recipe({**RECIPE, "clip_norm": 1}, {"recipe.clip_norm": None})["clip_norm"] is None


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("recipe.optimizer.learning_rate", "unknown key of the recipe 'optimizer'; did you mean 'optimiser'?"),
        ("recipe.optimiser.learning_rat", "did you mean 'learning_rate'?"),
        ("recipe.optimiser", "is no single value: name one of learning_rate"),
        ("recipe.batch_size.first", "'batch_size' is 2 in this recipe and has no 'first'"),
        ("recipe.clip_norm.first", "'clip_norm' is not set in this recipe and has no 'first'"),
    ],
)
def test_a_key_that_the_recipe_does_not_have_is_named_with_the_nearest(key: str, said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        changed_recipe(RECIPE, {key: 1})
