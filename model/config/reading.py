"""Reading configurations: from YAML to checked types."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.common.names import unknown_name
from model.config.messages import ConfigError, explain
from model.config.recipes import RECIPES, Recipes
from model.config.schema import Config
from model.config.yaml_files import check_plain, read_yaml


def parse_config(content: Mapping[str, Any], source: str = "config.yaml", recipes: Path = RECIPES) -> Config:
    """A validated configuration with every recipe that its experiments name.

    Args:
        content: the parsed YAML.
        source: file name for messages.
        recipes: folder of recipe files; recipes written inside the configuration win.

    Raises:
        ConfigError: one line per problem.
    """
    check_plain(content, source)
    configured = content.get("recipes")
    book = Recipes(recipes, configured if isinstance(configured, Mapping) else {}, source)
    if book.configured:
        content = {**content, "recipes": {name: book.content(name) for name in book.configured}}
    try:
        config = Config.model_validate(dict(content))
    except ValidationError as error:
        raise ConfigError(explain(error, Config, source)) from None
    known = {*book.files, *config.recipes}
    resolved = dict(config.recipes)
    for index, experiment in enumerate(config.experiments):
        where = f"{source}: experiments[{index}]"
        if experiment.dataset not in config.datasets:
            raise ConfigError(f"{where}.dataset: {unknown_name('dataset', experiment.dataset, config.datasets)}")
        if experiment.recipe not in known:
            raise ConfigError(f"{where}.recipe: {unknown_name('recipe', experiment.recipe, known)}")
        if experiment.recipe not in resolved:
            resolved[experiment.recipe] = book.load(experiment.recipe)
    return config.model_copy(update={"recipes": resolved})


def load_config(file: Path, recipes: Path = RECIPES) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: one line per problem.
    """
    return parse_config(read_yaml(file), str(file), recipes)
