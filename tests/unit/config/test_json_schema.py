"""The schemas that editors check files with: those of the types, and what they let pass."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from model.config.json_schema import config_schema, recipe_schema

PROJECT = Path(__file__).resolve().parents[3]
RECIPES = sorted((PROJECT / "config" / "recipes").glob("*.yaml"))
CONFIGS = [PROJECT / "config.yaml", *sorted((PROJECT / "config").rglob("*.yaml"))]
SCHEMAS = {"config": config_schema(), "recipe": recipe_schema()}


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_written_schemas_are_those_of_the_types(name):
    written = json.loads((PROJECT / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8"))
    assert written == SCHEMAS[name], "run `make schemas`"


@pytest.mark.parametrize("file", CONFIGS, ids=lambda f: f.relative_to(PROJECT).as_posix())
def test_every_file_that_comes_with_the_project_passes(file):
    schema = SCHEMAS["recipe" if file in RECIPES else "config"]
    jsonschema.validate(yaml.safe_load(file.read_text(encoding="utf-8")), schema)


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"extends": "a", "clip_nrm": 1}, "clip_nrm"),
        ({"extends": "a", "optimiser": {"lr": 1}}, "lr"),
        ({"extends": "a", "batch_size": 0}, "0 is not valid|minimum"),
        ({"family": "mask"}, "required property"),
    ],
)
def test_a_mistake_does_not_pass(recipe, expected):
    with pytest.raises(jsonschema.ValidationError, match=expected):
        jsonschema.validate(recipe, SCHEMAS["recipe"])
    content = yaml.safe_load((PROJECT / "config" / "micro.yaml").read_text(encoding="utf-8"))
    with pytest.raises(jsonschema.ValidationError, match=expected):
        jsonschema.validate({**content, "recipes": {"mine": recipe}}, SCHEMAS["config"])
