"""Names of the methods.

A row maps a name to ``module:Class`` as a string, which is imported when it is asked for: nothing depends on this table,
and adding a method is one file and one row. A method outside Segue needs no row: it is given as ``package.module:Class``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from model.common.registry import Registry
from model.methods.errors import MethodError

if TYPE_CHECKING:
    from model.methods.base import Method

Family = Literal["per-pixel", "mask"]

METHODS: dict[Family, dict[str, str]] = {
    "per-pixel": {
        "adapter": "model.methods.pixel.adapter:Adapter",
        "barm": "model.methods.pixel.barm:BARM",
        "dft": "model.methods.pixel.dft:DFT",
        "dft-star": "model.methods.pixel.dft:DFTStar",
        "dkd": "model.methods.pixel.dkd:DKD",
        "dkd-m": "model.methods.pixel.dkd:DKDM",
        "cil": "model.methods.pixel.cil:CIL",
        "ewc": "model.methods.pixel.ewc:EWC",
        "ewf": "model.methods.pixel.ewf:EWF",
        "ewf-plop": "model.methods.pixel.ewf:EWFonPLOP",
        "finetuning": "model.methods.pixel.finetuning:Finetuning",
        "finetuning-observed": "model.methods.pixel.observed_finetuning:ObservedFinetuning",
        "finetuning-replay": "model.methods.pixel.finetuning_replay:FinetuningReplay",
        "ilt": "model.methods.pixel.ilt:ILT",
        "joint": "model.methods.pixel.joint:Joint",
        "lgkd": "model.methods.pixel.lgkd:LGKD",
        "lgkd-mib": "model.methods.pixel.lgkd:LGKDMiB",
        "lwf": "model.methods.pixel.lwf:LwF",
        "lwf-mc": "model.methods.pixel.lwf_mc:LwFMC",
        "mib": "model.methods.pixel.mib:MiB",
        "nest": "model.methods.pixel.nest:NeST",
        "nest-plop": "model.methods.pixel.nest:NestPLOP",
        "pi": "model.methods.pixel.path_integral:PI",
        "plop": "model.methods.pixel.plop:PLOP",
        "rcil": "model.methods.pixel.rcil:RCIL",
        "rw": "model.methods.pixel.riemannian_walk:RW",
        "sdr": "model.methods.pixel.sdr:SDR",
        "ssul": "model.methods.pixel.ssul:SSUL",
        "ssul-m": "model.methods.pixel.ssul:SSULM",
        "star": "model.methods.pixel.star:STAR",
        "star-m": "model.methods.pixel.star:StarM",
    },
    "mask": {
        "balconpas": "model.methods.mask.balconpas:BalConpas",
        "balconpas-r": "model.methods.mask.balconpas:BalConpasR",
        "comformer": "model.methods.mask.comformer:CoMFormer",
        "eclipse": "model.methods.mask.eclipse:Eclipse",
        "finetuning": "model.methods.mask.finetuning:MaskFinetuning",
        "joint": "model.methods.mask.joint:MaskJoint",
        "mib": "model.methods.mask.mib:MaskMiB",
        "plop": "model.methods.mask.plop:MaskPLOP",
        "simcis": "model.methods.mask.simcis:SimCIS",
        "simcis-finetuning": "model.methods.mask.simcis:SimCISFinetuning",
        "simcis-joint": "model.methods.mask.simcis:SimCISJoint",
    },
}
"""Methods by network family; the same name may be in both."""


def _registry(family: Family) -> Registry:
    return Registry(f"{family} method", METHODS[family], MethodError, "hyper-parameter", open=True)


def known(family: Family = "per-pixel") -> tuple[str, ...]:
    """Names of the methods of a family, sorted."""
    return _registry(family).known


def module_of(name: str, family: Family = "per-pixel") -> str:
    """Dotted name of the module that a method lives in; nothing is imported.

    Raises:
        MethodError: for an unknown name; the message suggests the nearest one.
    """
    _refuse_other_family(name, family)
    return _registry(family).module_of(name)


def resolve(name: str, family: Family = "per-pixel") -> type[Method[Any, Any]]:
    """The class of a method.

    Raises:
        MethodError: for an unknown name, with the nearest one in the message; also for a class that is not a method.
    """
    from model.methods.base import Method  # here: planning looks names up without loading torch

    _refuse_other_family(name, family)
    found: type[Method[Any, Any]] = _registry(family).resolve(name)
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise MethodError(f"'{name}' is not a method: it does not derive from model.methods.base.Method")
    return found


def build(
    name: str, hyper_parameters: Mapping[str, Any] | None = None, family: Family = "per-pixel"
) -> Method[Any, Any]:
    """A method with the hyper-parameters of a configuration; those not given keep their defaults.

    Types are strict: no text for a number, no fraction for an integer, no number for a switch.

    Raises:
        MethodError: for an unknown method or hyper-parameter, or a value of the wrong type or range.
    """
    resolve(name, family)
    method: Method[Any, Any] = _registry(family).build(name, hyper_parameters or {})
    return method


def _refuse_other_family(name: str, family: Family) -> None:
    others = [other for other, rows in METHODS.items() if name in rows and name not in METHODS[family]]
    if others:
        raise MethodError(f"method '{name}' works on {others[0]} networks, not on {family} ones")
