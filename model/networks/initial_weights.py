"""Initial weights of a network from a file that a recipe names.

A recipe's network may have an entry ``weights: {file: …, source: …}``. It belongs to the base step only: every later step
starts from the previous checkpoint. ``$NAME`` in the file is expanded from the environment, so that a recipe contains no
machine-specific path.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

BACKBONE_SOURCES: Mapping[str, tuple[str, ...]] = {
    "deeplabv3": ("torchvision", "in-place-abn"),
    "deeplabv3-barm": ("torchvision",),
    "deeplabv3-rcil": ("torchvision", "in-place-abn"),
    "deeplabv3-ssul": ("torchvision",),
    "mask2former": ("torchvision", "detectron2"),
    "mask2former-eclipse": ("torchvision", "detectron2"),
}
"""Projects whose ImageNet backbones can be loaded."""

NETWORK_SOURCES: Mapping[str, tuple[str, ...]] = {
    "deeplabv3": ("mib", "dkd"),
    "deeplabv3-barm": ("barm",),
    "deeplabv3-ssul": ("ssul",),
    "mask2former": ("mask2former",),
    "mask2former-eclipse": ("eclipse",),
}
"""Projects whose checkpoints of a complete network can be loaded."""


class InitialWeightsError(ValueError):
    """An entry ``weights`` that cannot be used; the message names what is missing or unknown."""


def weights_file(entry: Mapping[str, Any]) -> Path:
    """The file of an entry, with environment variables expanded.

    Raises:
        InitialWeightsError: if the entry has other keys than ``file`` and ``source``, or a variable is not set.
    """
    if not isinstance(entry, Mapping) or set(entry) != {"file", "source"}:
        raise InitialWeightsError(f"network.weights: expected the keys 'file' and 'source', got {entry!r}")
    text = os.path.expandvars(str(entry["file"]))
    if "$" in text:
        raise InitialWeightsError(
            f"network.weights.file: {text} names an environment variable that is not set: export it"
        )
    return Path(text).expanduser()


def reader_module(name: str) -> str:
    """Dotted name of the module that reads and converts files for a network; nothing is imported."""
    family = "deeplabv3" if name.startswith("deeplabv3") else "mask2former"
    return f"model.networks.{family}.released_weights"


def load_initial_weights(name: str, network: nn.Module, entry: Mapping[str, Any]) -> None:
    """Load the weights that an entry ``weights`` names into a network or its backbone.

    Args:
        name: of the network in :mod:`model.networks.registry`.
        network: built by it; changed in place.
        entry: ``file`` and ``source``.

    Raises:
        InitialWeightsError: for a source that the network does not support.
        ValueError: from the reader, if the file cannot be read or does not fit completely.
    """
    file, source = weights_file(entry), entry["source"]
    whole, backbone = NETWORK_SOURCES.get(name, ()), BACKBONE_SOURCES.get(name, ())
    if source not in whole + backbone:
        raise InitialWeightsError(
            f"network.weights.source: '{name}' cannot load '{source}', only {', '.join(backbone + whole)}"
        )
    module: Any = network if source in whole else network.backbone
    reader = importlib.import_module(reader_module(name))
    if name.startswith("deeplabv3"):
        reader.load_weights(module, file, source)
    else:
        (reader.load_network if source in whole else reader.load_backbone)(module, file)
