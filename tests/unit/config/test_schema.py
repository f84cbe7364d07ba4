"""The types of recipes: what a step of them depends on, and what one family of networks has and the other has not."""

import pytest

from model.config.messages import ConfigError
from model.config.recipes import parse_recipe
from model.config.schema import Recipe

RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5, "learning_rate": 0.01},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}


def test_the_increment_may_have_its_own_length_and_learning_rate():
    recipe = Recipe.model_validate(RECIPE)
    assert recipe.resolved(0, 4)["iterations"] == 10 and recipe.resolved(0, 4)["optimiser"]["learning_rate"] == 0.1
    assert recipe.resolved(3, 4)["iterations"] == 5 and recipe.resolved(3, 4)["optimiser"]["learning_rate"] == 0.01


def test_a_step_may_have_its_own_batch_size():
    lengths = {"base": {"iterations": 10, "batch_size": 3}, "increment": {"iterations": 5}}
    recipe = Recipe.model_validate({**RECIPE, **lengths})
    assert [recipe.resolved(step, 4)["batch_size"] for step in (0, 1)] == [3, 2]
    assert recipe.resolved(1, 4) == Recipe.model_validate({**RECIPE, "increment": {"iterations": 5}}).resolved(1, 4)


def test_a_step_may_have_its_own_schedule():
    falling = {"name": "multi-step", "milestones": [0.5]}
    recipe = Recipe.model_validate({**RECIPE, "increment": {"iterations": 5, "schedule": falling}})
    assert [recipe.resolved(step, 4)["schedule"]["name"] for step in (0, 1)] == ["poly", "multi-step"]
    assert recipe.resolved(1, 4)["schedule"]["milestones"] == (0.5,)


def test_an_increment_may_be_as_long_as_its_classes_are_many():
    recipe = Recipe.model_validate({**RECIPE, "increment": {"iterations_per_class": 100}})
    assert [recipe.resolved(1, classes)["iterations"] for classes in (1, 5)] == [100, 500]


def test_settings_of_the_other_family_are_refused():
    for change, message in (
        ({"optimiser": {**RECIPE["optimiser"], "backbone_factor": 0.1}}, "optimiser.backbone_factor is for mask"),
        ({"leak_next_class": True}, "leak_next_class is a quirk"),
        ({"evaluation_size": 64, "evaluation_longest": 80}, "'evaluation_longest' is for mask networks"),
        ({"family": "mask", "void_in_training": "background"}, "void_in_training is for per-pixel"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_recipe({**RECIPE, **change}, "recipe.yaml")


@pytest.mark.parametrize("switch", ["tf32", "compiled"])
def test_a_switch_that_changes_numbers_is_part_of_the_spec_where_it_is_on(switch: str) -> None:
    plain = Recipe.model_validate(RECIPE).resolved(1, 4)
    assert switch not in plain and Recipe.model_validate({**RECIPE, switch: False}).resolved(1, 4) == plain
    assert Recipe.model_validate({**RECIPE, switch: True}).resolved(1, 4) == {**plain, switch: True}
