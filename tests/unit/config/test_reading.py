"""The configuration: every problem is one line that names file, key and remedy, before anything starts."""

import copy
from pathlib import Path

import pytest

from model.config.messages import ConfigError
from model.config.reading import load_config, parse_config

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
        (
            changed("experiments", 0, "methods", value=[]),
            "experiments[0]: 'methods' is empty: list at least one method",
        ),
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


def test_the_results_folder_may_be_told_by_variables(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("SEGUE_NOT_SET", raising=False)
    for text, expected in (
        ("~/x", "/home/me/x"),
        ("$HOME/x", "/home/me/x"),
        ("${HOME}-x", "/home/me-x"),
        ("a b", "a b"),
    ):
        config = parse_config(changed("results", value=text))
        assert config.results == expected
        assert parse_config({**CONFIG, "results": config.results}).results == expected
    for text, problem in (
        ("results/{x}", "'results/{x}' has braces"),
        ("-rf", "'-rf' starts with '-'"),
        ("$SEGUE_NOT_SET/x", "SEGUE_NOT_SET is not set"),
        ("", "'' is no name of a folder"),
        ("a\nb", ".* is no name of a folder"),
        ("a\0b", ".* is no name of a folder"),
    ):
        with pytest.raises(ConfigError, match=f"config.yaml: results: {problem}"):
            parse_config(changed("results", value=text))


def test_several_problems_are_several_lines():
    content = changed("recipes", "small", "batch_size", value=0)
    content["colour"] = "red"
    with pytest.raises(ConfigError) as caught:
        parse_config(content)
    assert len(str(caught.value).splitlines()) == 2


RECIPES = sorted((PROJECT / "config" / "recipes").glob("*.yaml"))
CONFIGS = [PROJECT / "config.yaml", *sorted((PROJECT / "config").rglob("*.yaml"))]


@pytest.mark.parametrize(
    "file", [f for f in CONFIGS if f not in RECIPES], ids=lambda f: f.relative_to(PROJECT).as_posix()
)
def test_every_configuration_that_comes_with_the_project_is_valid(file):
    assert load_config(file, PROJECT / "config" / "recipes").experiments
