"""Whether a recipe makes sense, and which one a method can work with where the configured one does not suit it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.common.names import unknown_name
from model.config.messages import ConfigError
from model.config.recipes import Recipes
from model.config.schema import Recipe
from model.evaluation import protocols
from model.evaluation.evaluators import registry as evaluators
from model.networks import initial_weights
from model.networks.registry import check_requirements
from model.workflow.catalogue import check_recipe

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


def check_configured(name: str, recipe: Recipe) -> None:
    """Refuse arguments of network, weights, transform and validation that do not exist or go together.

    Raises:
        ConfigError: naming the recipe.
    """
    network = {key: value for key, value in recipe.whole_network.items() if key != "weights"}
    try:
        check_recipe(recipe.family, {**network, "name": recipe.network["name"]}, recipe.transform)
        if "weights" in recipe.network:
            entry, backbone = recipe.network["weights"], recipe.network.get("backbone")
            initial_weights.check_source(recipe.network["name"], entry, backbone)
        if recipe.keep_best is not None:
            wanted = recipe.keep_best.protocol
            if wanted not in protocols.known():
                raise ConfigError(unknown_name("protocol", wanted, protocols.known()))
            evaluators.check_protocol(recipe.family, "semantic", protocols.get(wanted))
    except ValueError as error:
        raise ConfigError(f"recipe '{name}': {error}") from None
