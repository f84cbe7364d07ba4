"""Which recipe a method can work with, where the configured one does not suit it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.config.messages import ConfigError
from model.config.recipes import Recipes
from model.config.schema import Recipe
from model.networks.registry import check_requirements

if TYPE_CHECKING:
    from model.methods.base import Method


def suits(recipe: Recipe, method: type[Method[Any, Any]]) -> bool:
    """Whether a method can work on the network of a recipe."""
    try:
        check_requirements(recipe.whole_network, method.network_arguments)
    except ValueError:
        return False
    return recipe.family == method.family


def suitable_recipe(method: type[Method[Any, Any]], like: str, configured: Mapping[str, Recipe]) -> str | None:
    """The recipe with the nearest name whose network a method can work on.

    Args:
        method: that has to suit it.
        like: names of the recipe that does not suit, and of the method, with a hyphen between them.
        configured: recipes of the configuration; the project's own are searched as well.
    """
    found = {other for other, recipe in configured.items() if suits(recipe, method)}
    book = Recipes()
    for other in book.files.keys() - configured.keys():
        try:
            if suits(book.load(other), method):
                found.add(other)
        except ConfigError:  # an unfinished file of the user
            continue
    nearest = difflib.get_close_matches(like, sorted(found), n=1, cutoff=0)
    return nearest[0] if nearest else None
