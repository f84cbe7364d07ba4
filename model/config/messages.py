"""What is said about a configuration that cannot be run: one line a problem, with key, expectation and nearest name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from model.common.names import unknown_name


class ConfigError(ValueError):
    """A configuration that cannot be run; the message is one line per problem."""


def explain(error: ValidationError, model: type[BaseModel], source: str) -> str:
    """What is wrong with a value that is no ``model``: one line a problem, each naming ``source`` and the key."""
    lines = []
    problems = error.errors()
    for problem in problems:
        location = problem["loc"]
        if (
            isinstance(problem["input"], dict)
            and problem["type"] == "string_type"
            and len(_beside(problems, location)) > 1
        ):
            continue  # where text may stand as well, whoever writes keys and values means them
        key = _key(location)
        if problem["type"] == "extra_forbidden":
            text = unknown_name("key", str(location[-1]), _fields_at(model, location))
        elif problem["type"] == "missing":
            text = "is required"
        elif problem["type"] == "value_error":
            text = str(problem["ctx"]["error"])
        elif problem["type"] == "literal_error" and isinstance(problem["input"], str):
            text = unknown_name("value", problem["input"], re.findall(r"'([^']*)'", problem["ctx"]["expected"]))
        elif problem["type"] == "too_short":
            text = "is empty: give at least one entry, or remove the key"
        else:
            text = f"{problem['msg'][0].lower()}{problem['msg'][1:]}, got {problem['input']!r}"
        lines.append(f"{source}: {key}: {text}")
    return "\n".join(dict.fromkeys(lines))


def _key(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif re.fullmatch(r"[A-Za-z]+\[.*|function-.*|str|int|constrained-.*|[A-Z][A-Za-z]*", part):
            continue  # the branch of a union that pydantic tried, not a key of the file
        else:
            text += f".{part}" if text else part
    return text or "(top level)"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> set[str]:
    """Names of the fields where an unknown key was found, found by walking the annotations."""
    current: Any = model
    for part in location[:-1]:
        fields = getattr(current, "model_fields", {})
        if isinstance(part, str) and part in fields:
            current = fields[part].annotation
        for _ in range(4):  # list[X], dict[K, X], X | None, Annotated[X, …]
            arguments = [a for a in getattr(current, "__args__", ()) if a is not type(None)]
            models = [a for a in arguments if hasattr(a, "model_fields") or hasattr(a, "__args__")]
            if not models or hasattr(current, "model_fields"):
                break
            current = models[-1]
    return set(getattr(current, "model_fields", {}))


def _beside(problems: Sequence[Any], location: tuple[int | str, ...]) -> list[Any]:
    """Problems of the same value, whichever branch of a union they were found in."""
    return [problem for problem in problems if problem["loc"][: len(location) - 1] == location[:-1]]
