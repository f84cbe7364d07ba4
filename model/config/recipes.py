"""Recipes that state how they differ from another one.

A recipe with ``extends: name`` is the recipe of that name with its own keys on top: mappings merge key by key, anything else
replaces what was there, and ``null`` removes a key. The named recipe may extend a third one. What a job depends on is always
the resolved recipe; how it came about leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from model.common.fingerprints import PROJECT
from model.common.names import unknown_name
from model.config.messages import ConfigError, explain
from model.config.schema import Recipe
from model.config.yaml_files import read_yaml

RECIPES = PROJECT / "config" / "recipes"
EXTENDS = "extends"


def merged(inherited: Mapping[str, Any], changes: Mapping[str, Any], source: str, at: str = "") -> dict[str, Any]:
    """What is inherited, with changes on top.

    Args:
        inherited: content of the extended recipe, already resolved.
        changes: nested like it.
        source: where the changes come from, for messages.
        at: keys that lead here, each followed by a dot.

    Raises:
        ConfigError: if a key is to be removed that is not there.
    """
    result = dict(inherited)
    for key, value in changes.items():
        before = inherited.get(key)
        if value is None and key not in inherited:
            raise ConfigError(
                f"{source}: {at}{key}: null removes a key of the extended recipe: {unknown_name('key', key, inherited)}"
            )
        if value is None:
            del result[key]
        elif isinstance(value, Mapping) and isinstance(before, Mapping):
            result[key] = merged(before, value, source, f"{at}{key}.")
        else:
            result[key] = value
    return result


def parse_recipe(content: Any, source: str) -> Recipe:
    """A validated recipe; ``extends`` has been followed before.

    Raises:
        ConfigError: one line per problem, each naming ``source`` and the key.
    """
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise ConfigError(explain(error, Recipe, source)) from None


@dataclass(frozen=True)
class Recipes:
    """Recipes by name: those of a configuration, and the files of a folder.

    A recipe is found under its name in the configuration (``str``) or in its file (``Path``).

    Attributes:
        folder: of the files.
        configured: recipes as written in a configuration; they take precedence over files, and may extend the file of their name.
        source: name of the configuration, for messages.
    """

    folder: Path = RECIPES
    configured: Mapping[str, Any] = field(default_factory=dict)
    source: str = "configuration"

    @property
    def files(self) -> dict[str, Path]:
        """Recipe files by name."""
        return {file.stem: file for file in sorted(self.folder.glob("*.yaml"))}

    def load(self, name: str) -> Recipe:
        """The recipe in the file of that name.

        Raises:
            ConfigError: if there is no such recipe; one line per problem with it, or with a recipe that it extends.
        """
        file = self.folder / f"{name}.yaml"
        return parse_recipe(self.content(file), str(file))

    def content(self, place: str | Path, extending: tuple[str | Path, ...] = ()) -> Any:
        """A recipe merged with everything that it extends; anything but a mapping is left to validation.

        Args:
            place: name in the configuration, or file.
            extending: recipes that led here, each extending the next.

        Raises:
            ConfigError: naming the place, if it extends what does not exist, what is not valid, or itself.
        """
        content, where = self._read(place)
        if not isinstance(content, Mapping) or EXTENDS not in content:
            return content
        chain = (*extending, place)
        parent = self._extended(content[EXTENDS], place, where)
        if parent in chain:
            circle = " extends ".join(_name(one) for one in (*chain[chain.index(parent) :], parent))
            raise ConfigError(f"{where}: {EXTENDS}: a recipe cannot extend itself ({circle})")
        inherited = self.content(parent, chain)
        parse_recipe(inherited, self._read(parent)[1])  # or its mistakes would be reported as those of this recipe
        return merged(inherited, {key: value for key, value in content.items() if key != EXTENDS}, where)

    def _read(self, place: str | Path) -> tuple[Any, str]:
        if isinstance(place, Path):
            return read_yaml(place), str(place)
        return self.configured[place], f"{self.source}: recipes.{place}"

    def _extended(self, wanted: Any, by: str | Path, where: str) -> str | Path:
        if not isinstance(wanted, str):
            raise ConfigError(f"{where}: {EXTENDS}: expected the name of one recipe, got {wanted!r}")
        configured: Iterable[str] = set(self.configured) - {by} if isinstance(by, str) else ()
        if wanted in configured:
            return wanted
        if wanted in (files := self.files):
            return files[wanted]
        raise ConfigError(f"{where}: {EXTENDS}: {unknown_name('recipe', wanted, {*configured, *files})}")


def _name(place: str | Path) -> str:
    return place if isinstance(place, str) else place.stem
