"""The configuration: every problem is one line that names file, key and remedy, before anything starts."""

import copy
import json
from pathlib import Path

import pytest

from model.config.messages import ConfigError
from model.config.reading import load_config, parse_config, parse_recipe
from model.config.schema import Config, Recipe

PROJECT = Path(__file__).resolve().parents[3]

RECIPE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny"},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5, "learning_rate": 0.01},
    "batch_size": 2,
    "transform": {"name": "full-image"},
}
CONFIG = {
    "schema_version": 1,
    "datasets": {"toy": {"kind": "shapes"}},
    "recipes": {"small": RECIPE},
    "experiments": [{"dataset": "toy", "scenarios": ["6-3"], "recipe": "small", "methods": ["joint", "mib"]}],
}


def changed(*path, value):
    """The configuration with one value set; the path may create keys."""
    content = copy.deepcopy(CONFIG)
    at = content
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return content


def test_methods_may_be_plain_names_or_entries():
    entry = {
        "name": "mib",
        "label": "mib-strong",
        "hyper_parameters": {"distillation_weight": 20},
        "steps": {2: {"x": 1}},
    }
    config = parse_config(changed("experiments", 0, "methods", value=["joint", entry]))
    joint, strong = config.experiments[0].methods
    assert (joint.title, strong.title) == ("joint", "mib-strong")
    assert strong.at_step(1) == {"distillation_weight": 20}
    assert strong.at_step(2) == {"distillation_weight": 20, "x": 1}


def test_the_increment_may_have_its_own_length_and_learning_rate():
    recipe = Recipe.model_validate(RECIPE)
    assert recipe.resolved(0, 4)["iterations"] == 10 and recipe.resolved(0, 4)["optimiser"]["learning_rate"] == 0.1
    assert recipe.resolved(3, 4)["iterations"] == 5 and recipe.resolved(3, 4)["optimiser"]["learning_rate"] == 0.01


def test_an_increment_may_be_as_long_as_its_classes_are_many():
    recipe = Recipe.model_validate({**RECIPE, "increment": {"iterations_per_class": 100}})
    assert [recipe.resolved(1, classes)["iterations"] for classes in (1, 5)] == [100, 500]


def test_settings_of_the_other_family_are_refused():
    for change, message in (
        ({"optimiser": {**RECIPE["optimiser"], "backbone_factor": 0.1}}, "optimiser.backbone_factor is for mask"),
        ({"leak_next_class": True}, "leak_next_class is a quirk"),
        ({"family": "mask", "void_in_training": "background"}, "void_in_training is for per-pixel"),
    ):
        with pytest.raises(ConfigError, match=message):
            parse_recipe({**RECIPE, **change}, "recipe.yaml")


def test_environment_variables_are_filled_in_only_when_asked(monkeypatch):
    monkeypatch.setenv("SEGUE_DATA", "/data")
    config = parse_config(changed("datasets", "toy", value={"kind": "folder", "root": "$SEGUE_DATA/toy"}))
    assert config.datasets["toy"].options == {"root": "/data/toy"}
    assert config.datasets["toy"].model_extra == {"root": "$SEGUE_DATA/toy"}
    nested = parse_config(
        changed("datasets", "toy", value={"kind": "folder", "splits": {"train": {"list": "$SEGUE_DATA/a"}}})
    )
    assert nested.datasets["toy"].options == {"splits": {"train": {"list": "/data/a"}}}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            changed("experimants", value=[]),
            "config.yaml: experimants: unknown key 'experimants'; did you mean 'experiments'?",
        ),
        (changed("experiments", 0, "seed", value=1), "experiments[0].seed: unknown key 'seed'; did you mean 'seeds'?"),
        (
            changed("experiments", 0, "recipe", value="smal"),
            "experiments[0].recipe: unknown recipe 'smal'; did you mean 'small'?",
        ),
        (changed("experiments", 0, "dataset", value="toys"), "unknown dataset 'toys'; did you mean 'toy'?"),
        (changed("experiments", 0, "seeds", value=["a"]), "experiments[0].seeds[0]: input should be a valid integer"),
        (changed("experiments", 0, "seeds", value=[1, 1]), "'1' is listed twice"),
        (changed("experiments", 0, "methods", value=["mib", "mib"]), "give one of them a 'label'"),
        (
            changed("experiments", 0, "settings", value=["overlaped"]),
            "experiments[0].settings[0]: unknown value 'overlaped'; did you mean 'overlapped'?",
        ),
        (changed("experiments", 0, "methods", value=[]), "experiments[0].methods: is empty: give at least one entry"),
        (
            changed("datasets", "toy", "orders", value={"b": [3, 1, 3]}),
            "datasets.toy.orders: order 'b' has class 3 twice; an order names every class once",
        ),
        (
            changed("recipes", "small", "batch_size", value=0),
            "recipes.small.batch_size: input should be greater than or equal to 1",
        ),
        (changed("recipes", "small", "base", value={}), "recipes.small.base: give exactly one of 'iterations'"),
        (changed("recipes", "small", "network", value={}), "recipes.small.network: needs a 'name'"),
        (changed("recipes", "small", "optimiser", "lr", value=1), "unknown key 'lr'"),
        (changed("schema_version", value=2), "config.yaml: schema_version: input should be 1"),
        ({k: v for k, v in CONFIG.items() if k != "datasets"}, "config.yaml: datasets: is required"),
        (changed("experiments", 0, "memory", value={"selection": "random"}), "experiments[0].memory.size: is required"),
    ],
)
def test_a_problem_is_one_line_with_key_and_remedy(content, expected, tmp_path):
    with pytest.raises(ConfigError) as caught:
        parse_config(content, recipes=tmp_path)
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_several_problems_are_several_lines():
    content = changed("recipes", "small", "batch_size", value=0)
    content["colour"] = "red"
    with pytest.raises(ConfigError) as caught:
        parse_config(content)
    assert len(str(caught.value).splitlines()) == 2


@pytest.mark.parametrize(("text", "expected"), [("a: [", "not valid YAML"), ("- 1", "expected keys and values")])
def test_an_unreadable_file_is_named(tmp_path, text, expected):
    file = tmp_path / "broken.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"broken.yaml: {expected}"):
        load_config(file)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(("name", "model"), [("config", Config), ("recipe", Recipe)])
def test_the_schemas_are_those_of_the_types(name, model):
    written = json.loads((PROJECT / "schemas" / f"{name}.schema.json").read_text())
    assert written == model.model_json_schema(), "run `make schemas`"


RECIPES = sorted((PROJECT / "config" / "recipes").glob("*.yaml"))
CONFIGS = [PROJECT / "config.yaml", *sorted((PROJECT / "config").rglob("*.yaml"))]


@pytest.mark.parametrize(
    "file", [f for f in CONFIGS if f not in RECIPES], ids=lambda f: f.relative_to(PROJECT).as_posix()
)
def test_every_configuration_that_comes_with_the_project_is_valid(file):
    assert load_config(file, PROJECT / "config" / "recipes").experiments


@pytest.mark.parametrize("file", RECIPES, ids=lambda f: f.stem)
def test_every_recipe_that_comes_with_the_project_builds_its_network_and_transform(file):
    import torch
    import yaml

    from model.data.loading.mask_transforms import build_mask_transform
    from model.data.loading.pixel_transforms import build_transform
    from model.networks import registry

    recipe = Recipe.model_validate(yaml.safe_load(file.read_text()))
    arguments = {key: value for key, value in recipe.network.items() if key != "weights"}
    with torch.device("meta"):
        registry.build(arguments.pop("name"), [4, 2], arguments)
    transform = dict(recipe.transform)
    build = build_transform if recipe.family == "per-pixel" else build_mask_transform
    build(transform.pop("name"), **transform)
