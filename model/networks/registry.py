"""Names of networks, as recipes use them, and where each is built.

The table holds text that is resolved on demand: importing this module imports no network, and the fingerprint of a
training follows only the network that it uses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from model.common.registry import Registry
from model.networks.backbones.names import timm_model, timm_version

if TYPE_CHECKING:
    from torch import nn

NETWORKS: Mapping[str, str] = {
    "deeplabv3": "model.networks.deeplabv3.network:DeepLabV3",
    "deeplabv3-barm": "model.networks.deeplabv3.barm_network:BarmDeepLabV3",
    "deeplabv3-rcil": "model.networks.deeplabv3.rcil_network:RcilDeepLabV3",
    "deeplabv3-ssul": "model.networks.deeplabv3.ssul_network:SsulDeepLabV3",
    "mask2former": "model.networks.mask2former.network:build_mask2former",
    "mask2former-eclipse": "model.networks.mask2former.prompted_network:build_eclipse",
    "mask2former-simcis": "model.networks.mask2former.selecting_network:build_simcis",
}
"""Name to ``module:callable``; the callable takes ``classes_per_step`` and keyword arguments. A recipe may also name a callable
of another package this way."""


def is_foreign(name: str) -> bool:
    """Whether a name leads into another package: ``package.module:callable``.

    Such a name may come from a configuration only. One that a checkpoint brings along would run code that somebody else chose.
    """
    return ":" in name


class UnknownNetworkError(ValueError):
    """A network or constructor argument that does not exist, or a value that it cannot have."""


class UnsuitableNetworkError(ValueError):
    """A network that a method cannot work on."""


_REGISTRY = Registry("network", NETWORKS, UnknownNetworkError, given=1, open=True)


def known() -> tuple[str, ...]:
    """Names of all networks."""
    return _REGISTRY.known


def module_of(name: str) -> str:
    """Dotted name of the module that a network is built by, without importing it.

    Raises:
        UnknownNetworkError: for an unknown name.
    """
    return _REGISTRY.module_of(name)


def resolve(name: str) -> Callable[..., nn.Module]:
    """The callable that builds a network.

    Raises:
        UnknownNetworkError: for an unknown name.
    """
    constructor: Callable[..., nn.Module] = _REGISTRY.resolve(name)
    return constructor


def build(name: str, classes_per_step: Sequence[int], arguments: Mapping[str, Any]) -> nn.Module:
    """A freshly initialised network; its weights are drawn from torch's global generator.

    Args:
        name: of :func:`known`.
        classes_per_step: number of classes of each step that the network knows.
        arguments: keyword arguments of the constructor.

    Raises:
        UnknownNetworkError: for an unknown name or argument, or a value of the wrong type or range.
        ValueError: of the constructor, for values that do not go together.
    """
    network: nn.Module = _REGISTRY.build(name, arguments, list(classes_per_step))
    return network


def check_arguments(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse arguments that the constructor does not have or cannot take, without building anything.

    Raises:
        UnknownNetworkError: naming the argument, or saying why a backbone of timm cannot be what is asked for.
    """
    _REGISTRY.check(name, arguments)
    found = {**_defaults(name), **arguments}
    if timm_model(found.get("backbone")) is None:
        for key in ("norm", "backbone_norm"):
            if key in arguments and (arguments[key] == "own") == (key == "norm"):
                raise UnknownNetworkError(
                    f"network.{key} is '{arguments[key]}', which is for backbones of timm, not for '{found['backbone']}'"
                )
        return
    _timm_facts(name, found)


def _defaults(name: str) -> dict[str, Any]:
    """Arguments of a network that a recipe does not give."""
    return {p.name: p.default for p in inspect.signature(resolve(name)).parameters.values()}


def _timm_facts(name: str, found: Mapping[str, Any]) -> Any:
    """What timm says about the backbone of a network, defaults filled in, if the network can have it.

    Raises:
        UnknownNetworkError: with the reason why not.
    """
    model = timm_model(found["backbone"])
    form = "deeplab" if "backbone_norm" in found else "pyramid"
    if form == "pyramid" and "norm" not in found:
        raise UnknownNetworkError(
            f"network.backbone: '{name}' is made of a ResNet's convolutions; a model of timm cannot take its place"
        )
    try:
        timm_version(found)
        return import_module("model.networks.backbones.timm").check(model, form, found)
    except ValueError as error:
        raise UnknownNetworkError(f"network.backbone: {error}") from None


def check_requirements(network: Mapping[str, Any], required: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse a network that a method cannot work on, without building anything.

    Args:
        network: of a recipe: ``name`` and arguments; those not given have the constructor's defaults.
        required: values that each of some arguments, or the name, may have; of a network of another package, those of the
            arguments that it has.

    Raises:
        UnknownNetworkError: for an unknown network or argument.
        UnsuitableNetworkError: naming the argument, its value and what it has to be.
    """
    arguments = {key: value for key, value in network.items() if key not in ("name", "weights")}
    check_arguments(network["name"], arguments)
    found = {**_defaults(network["name"]), **network}
    for argument, allowed in required.items():
        if is_foreign(network["name"]) and (argument == "name" or argument not in found):
            continue  # whoever wrote the network answers for it
        value = found.get(argument)
        if value not in allowed:
            values = " or ".join(map(repr, allowed))
            raise UnsuitableNetworkError(f"network.{argument} is {value!r}, but has to be {values}")


def check_batch_norm(network: Mapping[str, Any]) -> None:
    """Refuse a network whose backbone has no batch normalisation, for methods that freeze its statistics.

    Args:
        network: of a recipe, see :func:`check_requirements`.

    Raises:
        UnknownNetworkError: as :func:`check_arguments`.
        UnsuitableNetworkError: naming the backbone.
    """
    found = {**_defaults(network["name"]), **network}
    if timm_model(found.get("backbone")) is not None and not _timm_facts(network["name"], found).batch_norm:
        raise UnsuitableNetworkError(
            f"it freezes the statistics of batch normalisation, and network.backbone '{found['backbone']}' has none"
        )
