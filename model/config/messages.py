"""Messages about a configuration that cannot be run: one line per problem, with key, expectation and nearest name."""

from __future__ import annotations

import re
import types
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from model.common.names import unknown_name

Location = tuple[int | str, ...]
NAME = r"^[A-Za-z0-9][A-Za-z0-9.-]*$"
"""What names look like that become parts of paths: no underscore and no slash."""


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line per problem."""


def explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """What is wrong with a value that is not a ``model``: one line per problem, each naming ``source`` and the key."""
    lines = []
    problems = error.errors()
    for problem in problems:
        path, fields = _walk(model, problem["loc"])
        value, context = problem["input"], problem.get("ctx", {})
        kind = problem["type"]
        if isinstance(value, dict) and kind == "string_type" and len(_beside(problems, problem["loc"])) > 1:
            continue  # where text is allowed as well, keys and values were meant if they were written
        if kind == "extra_forbidden":
            text = unknown_name("key", str(path[-1]), fields)
        elif kind == "missing":
            text = "is required"
        elif kind == "value_error":
            text = str(context["error"])
        elif kind == "literal_error" and isinstance(value, str):
            text = unknown_name("value", value, _quoted(context["expected"]))
        elif kind == "union_tag_invalid":
            path = (*path, context["discriminator"].strip("'"))
            text = unknown_name("value", str(context["tag"]), _quoted(context["expected_tags"]))
        elif kind == "union_tag_not_found":
            path = (*path, context["discriminator"].strip("'"))
            text = "is required"
        elif kind == "string_pattern_mismatch" and context["pattern"] == NAME:
            text = f"'{value}' becomes part of paths: use letters, digits, dots and hyphens only"
        elif kind == "too_short":
            text = "is empty: give at least one entry, or remove the key"
        else:
            text = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, got {value!r}"
        lines.append(f"{source}: {key_path(path)}: {text}")
    return "\n".join(dict.fromkeys(lines))


def key_path(location: Iterable[int | str]) -> str:
    """Keys and indices as one writes them: ``experiments[0].seeds``."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)
    return text.removeprefix(".") or "(top level)"


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _beside(problems: Sequence[Any], location: Location) -> list[Any]:
    """Problems of the same value, whichever branch of a union they were found in."""
    return [problem for problem in problems if problem["loc"][: len(location) - 1] == location[:-1]]


def _walk(model: type[BaseModel], location: Location) -> tuple[Location, tuple[str, ...]]:
    """Keys of the file that lead to a problem, and the names of the fields next to the last one.

    A location of pydantic also names the branches of unions that it tried; these are not keys.
    """
    current: Any = model
    path: list[int | str] = []
    fields: tuple[str, ...] = ()
    for part in location:
        branches = _branches(current)
        if len(branches) > 1 and not isinstance(part, int):
            named = [branch for branch in branches if part in _names_of(branch)]
            current = named[0] if named else None
            continue
        current = branches[0] if branches else None
        fields = ()
        if isinstance(current, type) and issubclass(current, BaseModel):
            fields = tuple(current.model_fields)
            current = current.model_fields[part].annotation if part in fields else None
        else:
            arguments = get_args(current)
            current = arguments[-1] if arguments else None
        if part != "[key]":
            path.append(part)
    return tuple(path), fields


def _branches(annotation: Any) -> list[Any]:
    """The types that a value may have, without None and further annotations."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return _branches(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return [branch for part in get_args(annotation) if part is not type(None) for branch in _branches(part)]
    return [annotation]


def _names_of(branch: Any) -> set[str]:
    """What pydantic may call a branch of a union: its name, or the value of a field that distinguishes branches."""
    names = {getattr(branch, "__name__", ""), str(branch)}
    if isinstance(branch, type) and issubclass(branch, BaseModel):
        for field in branch.model_fields.values():
            names.update(map(str, get_args(field.annotation) if get_origin(field.annotation) is Literal else ()))
    return names
