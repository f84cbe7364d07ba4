"""Recipes that extend others: what is inherited, what replaces it, and what is said when that cannot be."""

import copy
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.config.recipes import Recipes, merged
from model.config.schema import Recipe

PROJECT = Path(__file__).resolve().parents[3]
FILES = sorted((PROJECT / "config" / "recipes").glob("*.yaml"))
WHOLE = {
    "family": "per-pixel",
    "network": {"name": "deeplabv3", "backbone": "tiny", "channels": 64},
    "optimiser": {"name": "sgd", "learning_rate": 0.1},
    "base": {"iterations": 10},
    "increment": {"iterations": 5},
    "batch_size": 2,
    "clip_norm": 1.0,
    "transform": {"name": "random-resized-crop", "size": 48, "area": [0.5, 1.0]},
}
EXPERIMENT = {"dataset": "toy", "scenarios": ["6-3"], "methods": ["mib"]}
PLAIN = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
TREES = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(PLAIN, lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3), max_leaves=6),
    max_size=3,
)


def write(folder: Path, **recipes: object) -> Recipes:
    for name, content in recipes.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return Recipes(folder)


def without_nulls(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: without_nulls(value) for key, value in tree.items() if value is not None}
    return tree


def leaves(tree: dict, path: tuple = ()) -> dict[tuple, object]:
    """Value of every path that ends in something else than a mapping with keys."""
    found = {}
    for key, value in tree.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) and value else {(*path, key): value}
    return found


def test_mappings_merge_lists_replace_and_null_removes(tmp_path):
    book = write(
        tmp_path,
        whole=WHOLE,
        near={
            "extends": "whole",
            "network": {"channels": 32, "backbone": None},
            "transform": {"area": [0.25]},
            "clip_norm": None,
        },
    )
    assert book.content(book.files["near"]) == {
        **{key: value for key, value in WHOLE.items() if key != "clip_norm"},
        "network": {"name": "deeplabv3", "channels": 32},
        "transform": {"name": "random-resized-crop", "size": 48, "area": [0.25]},
    }


def test_a_chain_is_followed_to_its_end_and_the_nearest_recipe_wins(tmp_path):
    book = write(
        tmp_path,
        whole=WHOLE,
        middle={"extends": "whole", "batch_size": 4, "base": {"iterations": None, "epochs": 3}},
        last={"extends": "middle", "batch_size": 8},
    )
    recipe = book.load("last")
    assert (recipe.batch_size, recipe.base.epochs, recipe.increment.iterations) == (8, 3, 5)
    assert book.load("middle").batch_size == 4


@given(inherited=TREES.map(without_nulls), changes=TREES.map(without_nulls))
def test_changes_are_in_the_result_and_nothing_else_differs(inherited, changes):
    before = copy.deepcopy((inherited, changes))
    result = merged(inherited, changes, "recipe.yaml")
    assert merged(result, changes, "recipe.yaml") == result
    found, told = leaves(result), leaves(changes)
    assert {path: value for path, value in told.items() if value != {}}.items() <= found.items()
    for path, value in leaves(inherited).items():
        replaced = any(path[: len(other)] == other or other[: len(path)] == path for other in told)
        assert replaced or found[path] == value
    assert (inherited, changes) == before


def test_a_recipe_of_a_configuration_extends_another_one_of_it_or_a_file_even_of_its_own_name(tmp_path):
    write(tmp_path, whole=WHOLE)
    content = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes"}},
        "recipes": {"whole": {"extends": "whole", "batch_size": 6}, "mine": {"extends": "whole", "threads": 2}},
        "experiments": [{**EXPERIMENT, "recipe": "mine"}],
    }
    recipes = parse_config(content, recipes=tmp_path).recipes
    assert (recipes["whole"].batch_size, recipes["whole"].threads) == (6, 1)
    assert (recipes["mine"].batch_size, recipes["mine"].threads) == (6, 2)


@pytest.mark.parametrize(
    ("recipes", "asked", "expected"),
    [
        (
            {"a": {"extends": "b"}, "b": {"extends": "c"}, "c": {"extends": "b"}},
            "a",
            "c.yaml: extends: a recipe cannot extend itself (b extends c extends b)",
        ),
        ({"whole": {"extends": "whole"}}, "whole", "whole.yaml: extends: a recipe cannot extend itself"),
        (
            {"whole": WHOLE, "a": {"extends": "whol"}},
            "a",
            "a.yaml: extends: unknown recipe 'whol'; did you mean 'whole'?",
        ),
        (
            {"whole": WHOLE, "a": {"extends": ["whole"]}},
            "a",
            "a.yaml: extends: expected the name of one recipe, got ['whole']",
        ),
        (
            {"whole": WHOLE, "a": {"extends": "whole", "network": {"chanels": None}}},
            "a",
            "a.yaml: network.chanels: null removes a key of the extended recipe: unknown key 'chanels'; did you mean "
            "'channels'?",
        ),
        (
            {"whole": WHOLE, "a": {"extends": "whole", "optimiser": {"lr": 1}}},
            "a",
            "a.yaml: optimiser.lr: unknown key 'lr'",
        ),
        (
            {"whole": {**WHOLE, "batch_size": 0}, "a": {"extends": "whole", "threads": 2}},
            "a",
            "whole.yaml: batch_size: input should be greater than or equal to 1",
        ),
        ({"whole": WHOLE, "a": {"extends": "whole", "family": None}}, "a", "a.yaml: family: is required"),
    ],
)
def test_what_cannot_be_extended_is_one_line_that_names_the_file(tmp_path, recipes, asked, expected):
    with pytest.raises(ConfigError) as caught:
        write(tmp_path, **recipes).load(asked)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert message.startswith(f"{tmp_path}/{expected}")


def test_a_recipe_of_a_configuration_that_cannot_be_extended_is_named(tmp_path):
    content = {"recipes": {"a": {"extends": "b"}, "b": {"extends": "a"}}}
    with pytest.raises(ConfigError, match=r"^mine.yaml: recipes.a: extends: .*\(b extends a extends b\)$|recipes.b"):
        parse_config(content, "mine.yaml", tmp_path)
    with pytest.raises(ConfigError, match=r"^mine.yaml: recipes.a: extends: unknown recipe 'a'"):
        parse_config({"recipes": {"a": {"extends": "a"}}}, "mine.yaml", tmp_path)


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_every_recipe_that_comes_with_the_project_builds_its_network_and_transform(file):
    import torch

    from model.data.loading.mask_transforms import build_mask_transform
    from model.data.loading.pixel_transforms import build_transform
    from model.networks import registry

    recipe: Recipe = Recipes(file.parent).load(file.stem)
    arguments = {key: value for key, value in recipe.network.items() if key != "weights"}
    with torch.device("meta"):
        registry.build(arguments.pop("name"), [4, 2], arguments)
    transform = dict(recipe.transform)
    build = build_transform if recipe.family == "per-pixel" else build_mask_transform
    build(transform.pop("name"), **transform)


def test_recipes_that_differ_by_a_few_lines_say_only_these():
    contents = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in FILES]
    whole = [content for content in contents if "extends" not in content]
    for one in whole:
        near = [other for other in whole if other is not one and sum(one.get(k) != v for k, v in other.items()) < 3]
        assert not near, "one of two recipes that differ in a key or two extends the other"
