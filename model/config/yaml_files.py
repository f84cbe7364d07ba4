"""YAML files: the one place that opens them.

Stricter than YAML itself: a repeated key is refused instead of the second one winning, and values are those that JSON
knows as well, so that a date is not silently something else than text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from model.common.files import explained
from model.config.messages import ConfigError, key_path

_KINDS = {"date": "a date", "datetime": "a time", "bytes": "binary data", "set": "a set"}


class _DuplicateKeyError(yaml.YAMLError):
    def __init__(self, key: Any, first: int, second: int) -> None:
        super().__init__(f"line {second}: key '{key}' is in line {first} as well; remove one of them")


class _Loader(yaml.SafeLoader):
    """Plain data only; no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        lines: dict[Any, int] = {}
        for key_node, _ in node.value:  # before `<<` brings in the keys of others, which may be overridden
            if key_node.tag == "tag:yaml.org,2002:merge" or not isinstance(key_node, yaml.ScalarNode):
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if key in lines:
                raise _DuplicateKeyError(key, lines[key], line)
            lines[key] = line
        return super().construct_mapping(node, deep)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except ValueError as error:  # such as a thirteenth month: it knows no line
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from None


def _load(text: str) -> Any:
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def read_yaml(file: Path) -> dict[str, Any]:
    """A YAML mapping from a file.

    Raises:
        ConfigError: if the file cannot be read, does not parse, has a key twice, or holds no mapping of plain values.
    """
    try:
        content = _load(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; check the path") from None
    except OSError as error:
        raise ConfigError(f"{file}: {explained(error)}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not UTF-8 text ({error}); save it as UTF-8") from None
    except _DuplicateKeyError as error:
        raise ConfigError(f"{file}: {error}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{file}: {_explained(error)}") from None
    except RecursionError:
        raise ConfigError(f"{file}: nested too deeply") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: expected keys and values, found {type(content).__name__}")
    check_plain(content, str(file))
    return content


def check_plain(content: Mapping[str, Any], source: str) -> None:
    """Refuse values that are not text, finite numbers, switches, lists or mappings.

    Raises:
        ConfigError: one line per value, each naming ``source`` and the key.
    """
    problems = [f"{source}: {key_path(path)}: {problem}" for path, problem in _odd_values(content, ())]
    if problems:
        raise ConfigError("\n".join(problems))


def _odd_values(value: Any, path: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(key, bool) or not isinstance(key, str | int):
                yield path, f"key {key!r} is neither text nor an integer; put it in quotes"
            else:
                yield from _odd_values(item, (*path, str(key)))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _odd_values(item, (*path, index))
    elif isinstance(value, float) and not math.isfinite(value):
        yield path, f"is {value}; expected a finite number"
    elif value is not None and not isinstance(value, str | int | float):
        kind = _KINDS.get(type(value).__name__, f"a {type(value).__name__}")
        yield path, f"is {kind}; expected text, a number, a switch, a list or keys and values (put text into quotes)"


def _explained(error: yaml.YAMLError | ValueError) -> str:
    """Place and cause of what does not parse, in one line."""
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark is not None else ""
    told = [getattr(error, part, None) for part in ("context", "problem")] if place else [str(error)]
    return f"{place}not valid YAML: {' '.join(', '.join(filter(None, told)).split())}"
