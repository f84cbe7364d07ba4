"""Values that an experiment overrides in its methods or its recipe: one of each (``overrides``), or a grid (``sweep``).

A key says what it changes: ``method.NAME`` is a hyper-parameter of the experiment's methods, ``recipe.KEY.KEY`` a value of its
recipe. What becomes of them (new recipes, new entries of methods) carries the values in its name, as in
``mib@distillation-weight=10``: two of them never share a folder.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from model.common.names import VARIANT, unknown_name

METHOD, RECIPE = "method.", "recipe."
"""What the keys of hyper-parameters and of recipes begin with."""
_FREE = ("network", "transform")
"""Parts of a recipe whose keys are arguments of a constructor, which checks them."""


def check_overrides(overrides: Mapping[str, Any]) -> None:
    """Refuse keys that change neither methods nor the recipe, and values that are not plain.

    Raises:
        ValueError: naming the key.
    """
    for key, value in overrides.items():
        _check_key(key)
        _check_value(key, value)


def check_sweep(sweep: Mapping[str, Any]) -> None:
    """Refuse keys that change neither methods nor the recipe, and anything but lists of different plain values.

    Raises:
        ValueError: naming the key.
    """
    for key, values in sweep.items():
        _check_key(key)
        if not isinstance(values, list):
            raise ValueError(
                f"'{key}' needs a list of values, got {values!r}; a single value belongs under 'overrides'"
            )
        if not values:
            raise ValueError(f"'{key}' is an empty list: give the values to try, or remove the key")
        for place, value in enumerate(values):
            _check_value(key, value)
            if any(same(value, other) for other in values[:place]):
                raise ValueError(f"'{key}' lists {value!r} twice")


def _check_key(key: Any) -> None:
    prefix, _, rest = str(key).partition(".")
    if f"{prefix}." not in (METHOD, RECIPE) or not rest or not all(rest.split(".")):
        raise ValueError(
            f"'{key}' does not say what to change: write 'method.NAME' for a hyper-parameter, or 'recipe.KEY' for a value of the "
            "recipe, such as 'recipe.optimiser.learning_rate'"
        )


def _check_value(key: str, value: Any) -> None:
    if isinstance(value, list | Mapping):
        raise ValueError(f"'{key}' has {value!r}; expected a number, a text, a switch or null")


def same(value: Any, other: Any) -> bool:
    """Whether two plain values mean the same: 1 and 1.0 do, 1 and true do not."""
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def combinations(axes: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Every choice of one value a key, the last key changing fastest; one empty choice without keys."""
    return [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]


def variant_name(base: str, values: Mapping[str, Any]) -> str:
    """The name of a method or recipe with some values changed; it can be part of a path."""
    parts = (f"{_plain(key.partition('.')[2])}={_plain(value_text(value))}" for key, value in values.items())
    return VARIANT.join([base, *parts])


def value_text(value: Any) -> str:
    """A value as names and tables show it: 0.01, true, none."""
    if value is None:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.+-]", "-", text)


def changed_recipe(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a recipe with some values changed.

    Args:
        content: of a validated recipe, its defaults included.
        values: by key, with the prefix ``recipe.``; null removes an argument of a constructor.

    Raises:
        ValueError: for a key that the recipe does not have.
    """
    result = dict(content)
    for key, value in values.items():
        result = _with(result, key.removeprefix(RECIPE).split("."), value, key)
    return result


def _with(content: Mapping[str, Any], path: Sequence[str], value: Any, key: str, free: bool = False) -> dict[str, Any]:
    first, *rest = path
    if first not in content and not (free and not rest):
        raise ValueError(f"'{key}': {unknown_name('key of the recipe', first, content)}")
    if not rest:
        if free and value is None:
            return {name: item for name, item in content.items() if name != first}
        if isinstance(content.get(first), Mapping):
            raise ValueError(f"'{key}' is no single value: name one of {', '.join(content[first])}")
        return {**content, first: value}
    if not isinstance(content[first], Mapping):
        now = f"is {value_text(content[first])}" if content[first] is not None else "is not set"
        raise ValueError(f"'{key}': '{first}' {now} in this recipe and has no '{rest[0]}'")
    return {**content, first: _with(content[first], rest, value, key, free or first in _FREE)}
