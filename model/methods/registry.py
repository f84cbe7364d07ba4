"""Names of the methods.

A row maps a name to ``module:Class`` as a string, which is imported when it is asked for: nothing depends on this table,
and adding a method is one file and one row.
"""

from __future__ import annotations

import difflib
import importlib
import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Literal, get_type_hints

from pydantic import TypeAdapter, ValidationError

from model.methods.base import Method

Family = Literal["per-pixel", "mask"]

METHODS: dict[Family, dict[str, str]] = {
    "per-pixel": {
        "ewc": "model.methods.pixel.ewc:EWC",
        "finetuning": "model.methods.pixel.finetuning:Finetuning",
        "finetuning-observed": "model.methods.pixel.observed_finetuning:ObservedFinetuning",
        "finetuning-replay": "model.methods.pixel.finetuning_replay:FinetuningReplay",
        "ilt": "model.methods.pixel.ilt:ILT",
        "joint": "model.methods.pixel.joint:Joint",
        "lwf": "model.methods.pixel.lwf:LwF",
        "lwf-mc": "model.methods.pixel.lwf_mc:LwFMC",
        "mib": "model.methods.pixel.mib:MiB",
        "pi": "model.methods.pixel.path_integral:PI",
        "plop": "model.methods.pixel.plop:PLOP",
        "rw": "model.methods.pixel.riemannian_walk:RW",
        "ssul": "model.methods.pixel.ssul:SSUL",
        "ssul-m": "model.methods.pixel.ssul:SSULM",
        "star": "model.methods.pixel.star:STAR",
        "star-m": "model.methods.pixel.star:StarM",
    },
    "mask": {
        "balconpas": "model.methods.mask.balconpas:BalConpas",
        "balconpas-r": "model.methods.mask.balconpas:BalConpasR",
        "eclipse": "model.methods.mask.eclipse:Eclipse",
        "finetuning": "model.methods.mask.finetuning:MaskFinetuning",
        "joint": "model.methods.mask.joint:MaskJoint",
    },
}
"""Methods by the family of networks they work on: the same name may stand in both."""


class MethodError(ValueError):
    """An unknown method, or hyper-parameters that it does not have."""


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known) or 'none'}"


def known(family: Family = "per-pixel") -> tuple[str, ...]:
    """Names of the methods of a family, sorted."""
    return tuple(sorted(METHODS[family]))


def _entry(name: str, family: Family) -> tuple[str, str]:
    if name not in METHODS[family]:
        others = [other for other, rows in METHODS.items() if name in rows]
        hint = f"it works on {others[0]} networks" if others else _nearest(name, known(family))
        raise MethodError(f"unknown method '{name}' for {family} networks; {hint}")
    module, _, attribute = METHODS[family][name].partition(":")
    return module, attribute


def module_of(name: str, family: Family = "per-pixel") -> str:
    """Dotted name of the module that a method lives in; nothing is imported.

    Raises:
        MethodError: for an unknown name; the message suggests the nearest one.
    """
    return _entry(name, family)[0]


def resolve(name: str, family: Family = "per-pixel") -> type[Method]:
    """The class of a method.

    Raises:
        MethodError: for an unknown name; the message suggests the nearest one.
    """
    module, attribute = _entry(name, family)
    found: type[Method] = getattr(importlib.import_module(module), attribute)
    return found


def build(name: str, hyper_parameters: Mapping[str, Any] | None = None, family: Family = "per-pixel") -> Method:
    """A method with hyper-parameters as they stand in a configuration; those not given keep their defaults.

    Types are strict: no text for a number, no fraction for an integer, no number for a switch.

    Raises:
        MethodError: for an unknown method or hyper-parameter, or a value of the wrong type or range.
    """
    cls = resolve(name, family)
    hints = get_type_hints(cls, include_extras=True)
    names = tuple(field.name for field in fields(cls))  # type: ignore[arg-type]  # every method is a dataclass
    values = {}
    for key, value in (hyper_parameters or {}).items():
        if key not in names:
            raise MethodError(f"method '{name}' has no hyper-parameter '{key}'; {_nearest(key, names)}")
        try:  # through JSON, where a list stands for a tuple
            values[key] = TypeAdapter(hints[key]).validate_json(json.dumps(value, allow_nan=False), strict=True)
        except ValidationError as error:
            problem = error.errors()[0]["msg"]
            raise MethodError(f"hyper-parameter '{key}' of method '{name}' is {value!r}: {problem}") from None
        except (TypeError, ValueError):
            message = f"hyper-parameter '{key}' of method '{name}' is {value!r}: expected a finite, plain value"
            raise MethodError(message) from None
    return cls(**values)
