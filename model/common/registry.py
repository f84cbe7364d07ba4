"""What the names in a configuration refer to.

A registry maps a name to ``module:attribute`` as text, which is imported on demand: importing the table imports nothing that
it names, so the fingerprint of a job covers only what the job uses, and a new row changes none.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from model.common.names import hint, unknown_name


@dataclass(frozen=True)
class Registry:
    """Names of one kind of things, and how they are made.

    Attributes:
        kind: what they are, for messages.
        rows: name to ``module:attribute``.
        error: raised for any problem with a name or an argument.
        argument: what the arguments are called, for messages.
        given: how many positional arguments the maker adds to those of the configuration.
        open: whether ``package.module:attribute`` may stand for a name; never where a name may come from a file of others.
    """

    kind: str
    rows: Mapping[str, str]
    error: Callable[[str], ValueError]
    argument: str = "argument"
    given: int = 0
    open: bool = False

    @property
    def known(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self.rows))

    def module_of(self, name: str) -> str:
        """Dotted name of the module that a name leads to; nothing is imported.

        Raises:
            ValueError: the registry's error, for an unknown name; it suggests the nearest one.
        """
        return self._entry(name)[0]

    def resolve(self, name: str) -> Any:
        """What a name refers to.

        Raises:
            ValueError: the registry's error, for an unknown name, or one outside the table that cannot be imported.
        """
        module, attribute = self._entry(name)
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if name in self.rows:
                raise
            raise self.error(f"{self.kind} '{name}' cannot be imported: {error}; is its package installed?") from None

    def check(self, name: str, values: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments from a configuration, converted to the types that the named thing takes.

        Raises:
            ValueError: the registry's error, naming the argument.
        """
        return checked_arguments(
            self.resolve(name), values, self.error, f"{self.kind} '{name}'", self.argument, self.given
        )

    def build(self, name: str, values: Mapping[str, Any], *given: Any) -> Any:
        """The named thing, made with checked arguments after those ``given``; those left out have their defaults.

        Raises:
            ValueError: the registry's error, naming the argument; or that of the maker, for a value that makes no sense.
        """
        return self.resolve(name)(*given, **self.check(name, values))

    def _entry(self, name: str) -> tuple[str, str]:
        module, _, attribute = self.rows.get(name, name if self.open else "").partition(":")
        if not (module and attribute):
            raise self.error(unknown_name(self.kind, name, self.rows))
        return module, attribute


def checked_arguments(
    maker: Callable[..., Any],
    values: Mapping[str, Any],
    error: Callable[[str], ValueError],
    what: str,
    argument: str = "argument",
    given: int = 0,
) -> dict[str, Any]:
    """Arguments from a configuration, converted to the types of their annotations.

    Types are strict: no text for a number, no fraction for an integer, no number for a switch. A list is accepted for a tuple.

    Args:
        maker: a class or function whose parameters are annotated.
        values: name to value.
        error: raised with one line that names the argument.
        what: the thing that is made, for messages.
        argument: what its arguments are called.
        given: how many positional arguments come from elsewhere.
    """
    parameters = list(inspect.signature(maker).parameters.values())[given:]
    names = [parameter.name for parameter in parameters]
    for key in values:
        if key not in names:
            raise error(f"{what} has no {argument} '{key}'; {hint(key, names)}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in values:
            raise error(f"{what} needs the {argument} '{parameter.name}'")
    checked = {}
    for key, value in values.items():
        try:  # through JSON, where a list is accepted for a tuple
            checked[key] = _adapter(maker, key).validate_json(json.dumps(value, allow_nan=False), strict=True)
        except ValidationError as problem:
            said = problem.errors()[0]["msg"].removeprefix("Value error, ")
            raise error(f"{argument} '{key}' of {what} is {_shown(value)}: {said[0].lower()}{said[1:]}") from None
        except (TypeError, ValueError):
            raise error(f"{argument} '{key}' of {what} is {_shown(value)}: expected a finite, plain value") from None
    return checked


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


@cache
def _adapter(maker: Callable[..., Any], argument: str) -> TypeAdapter[Any]:
    own_init = inspect.isclass(maker) and not hasattr(maker, "__dataclass_fields__")
    hints = get_type_hints(maker.__init__ if own_init else maker, include_extras=True)
    return TypeAdapter(hints.get(argument, Any))
