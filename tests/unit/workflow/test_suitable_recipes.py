"""A method on a network that it cannot work on is told a recipe that it can."""

import pytest

from model.config.recipes import Recipes
from model.methods.registry import METHODS, resolve
from model.workflow.suitable_recipes import suitable_recipe, suits

ROWS = [(family, name) for family, rows in METHODS.items() for name in sorted(rows)]


@pytest.mark.parametrize(("family", "name"), ROWS)
def test_every_method_has_a_recipe_that_comes_with_the_project(family, name):
    method = resolve(name, family)
    found = suitable_recipe(method, "deeplabv3-tiny-shapes" if family == "per-pixel" else "mask2former-tiny-shapes", {})
    assert found is not None and suits(Recipes().load(found), method)


def test_the_nearest_name_wins_and_recipes_of_the_configuration_count():
    method = resolve("plop", "per-pixel")
    assert suitable_recipe(method, "deeplabv3-tiny-shapes-plop", {}) == "deeplabv3-tiny-shapes-stages"
    assert suitable_recipe(method, "deeplabv3-r101-voc-plop", {}) == "deeplabv3-r101-voc-plop"
    own = {"mine-stages": Recipes().load("deeplabv3-tiny-shapes-stages"), "mine": Recipes().load("deeplabv3-micro")}
    assert suitable_recipe(method, "mine-plop", own) == "mine-stages"
