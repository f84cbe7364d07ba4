"""JSON schemas of configuration and recipe files, with which editors complete and check them."""

from __future__ import annotations

import copy
from typing import Any

from model.config.recipes import EXTENDS
from model.config.schema import Config, Recipe

_CHANGES = "Changes"
"""What the names of definitions for recipes that extend another one end with."""


def config_schema() -> dict[str, Any]:
    """JSON schema of a configuration file."""
    schema = Config.model_json_schema()
    schema["$defs"]["WholeRecipe"] = schema["$defs"]["Recipe"]
    schema["$defs"]["Recipe"] = _either("#/$defs/WholeRecipe")
    schema["$defs"].update(_changes(Recipe.model_json_schema()))
    return schema


def recipe_schema() -> dict[str, Any]:
    """JSON schema of a recipe file."""
    whole = Recipe.model_json_schema()
    definitions = whole.pop("$defs")
    changes = _changes({**whole, "$defs": definitions})
    return {**_either("#/$defs/WholeRecipe"), "$defs": {"WholeRecipe": whole, **definitions, **changes}}


def _either(whole: str) -> dict[str, Any]:
    """A complete recipe, or only the differences if it extends another one."""
    return {
        "if": {"type": "object", "required": [EXTENDS]},
        "then": {"$ref": f"#/$defs/Recipe{_CHANGES}"},
        "else": {"$ref": whole},
    }


def _changes(recipe: dict[str, Any]) -> dict[str, Any]:
    """Definitions of a recipe and its parts in which nothing is required and everything may be null."""
    recipe = copy.deepcopy(recipe)
    definitions = recipe.pop("$defs")
    recipe["properties"] = {EXTENDS: {"title": "Extends", "type": "string"}, **recipe["properties"]}
    recipe["description"] = "How a recipe differs from the one that it extends; null removes a key."
    found = {}
    for name, definition in {**definitions, "Recipe": recipe}.items():
        definition.pop("required", None)
        for key, value in definition["properties"].items():
            if key != EXTENDS:
                definition["properties"][key] = {"anyOf": [_changed_references(value), {"type": "null"}]}
        found[f"{name}{_CHANGES}"] = definition
    return found


def _changed_references(value: Any) -> Any:
    """The same with every reference leading to the definition in which nothing is required.

    Defaults are left out, and so is what distinguishes branches: changes fit several, unless they name one.
    """
    if isinstance(value, dict):
        left_out = ("default", "discriminator")
        kept = {key: _changed_references(item) for key, item in value.items() if key not in left_out}
        if "oneOf" in kept:
            kept["anyOf"] = kept.pop("oneOf")
        return {**kept, "$ref": f"{value['$ref']}{_CHANGES}"} if "$ref" in value else kept
    return [_changed_references(item) for item in value] if isinstance(value, list) else value
