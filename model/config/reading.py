"""Reading configurations and recipes: from YAML to checked types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from model.config.messages import ConfigError, explain, unknown_name
from model.config.schema import Config, Recipe

RECIPES = Path("config/recipes")


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises:
        ConfigError: if the file is missing, does not parse or holds no mapping.
    """
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected keys and values, found {type(content).__name__}")
    return content


def parse_recipe(content: Mapping[str, Any], source: str) -> Recipe:
    """A validated recipe.

    Raises:
        ConfigError: one line per problem, each naming ``source`` and the key.
    """
    try:
        return Recipe.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(explain(error, Recipe, source)) from None


def parse_config(content: Mapping[str, Any], source: str = "config.yaml", recipes: Path = RECIPES) -> Config:
    """A validated configuration with every recipe that its experiments name.

    Args:
        content: the parsed YAML.
        source: file name for messages.
        recipes: folder of recipe files; recipes written inside the configuration win.

    Raises:
        ConfigError: one line per problem.
    """
    try:
        config = Config.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(explain(error, Config, source)) from None
    known = {file.stem for file in recipes.glob("*.yaml")} | set(config.recipes)
    resolved = dict(config.recipes)
    for index, experiment in enumerate(config.experiments):
        where = f"{source}: experiments[{index}]"
        if experiment.dataset not in config.datasets:
            raise ConfigError(f"{where}.dataset: {unknown_name('dataset', experiment.dataset, config.datasets)}")
        if experiment.recipe not in known:
            raise ConfigError(f"{where}.recipe: {unknown_name('recipe', experiment.recipe, known)}")
        if experiment.recipe not in resolved:
            file = recipes / f"{experiment.recipe}.yaml"
            resolved[experiment.recipe] = parse_recipe(read_yaml(file), str(file))
    return config.model_copy(update={"recipes": resolved})


def load_config(file: Path, recipes: Path = RECIPES) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: one line per problem.
    """
    return parse_config(read_yaml(file), str(file), recipes)
