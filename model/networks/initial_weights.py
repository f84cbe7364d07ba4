"""Initial weights of a network from a file that a recipe names.

A recipe's network may have an entry ``weights: {file: …, source: …}``. It belongs to the base step only: every later step
starts from the previous checkpoint. ``$NAME`` in the file is expanded from the environment, so that a recipe contains no
machine-specific path.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from model.common.environment import expand, not_set

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

NETWORK_SOURCES: Mapping[str, tuple[str, ...]] = {
    "deeplabv3": ("mib", "dkd"),
    "deeplabv3-barm": ("barm",),
    "deeplabv3-ssul": ("ssul",),
    "mask2former": ("mask2former", "comformer"),
    "mask2former-eclipse": ("eclipse",),
    "mask2former-simcis": ("simcis",),
}
"""Projects whose checkpoints of a complete network can be loaded."""


class InitialWeightsError(ValueError):
    """An entry ``weights`` that cannot be used; the message names what is missing or unknown."""


def weights_file(entry: Mapping[str, Any]) -> Path:
    """The file of an entry, with environment variables expanded.

    Raises:
        InitialWeightsError: if the entry has other keys than ``file`` and ``source``, or a variable is not set.
    """
    _check_keys(entry)
    if problem := not_set(str(entry["file"])):
        raise InitialWeightsError(f"network.weights.file: {problem}")
    return Path(expand(str(entry["file"])))


def check_source(name: str, entry: Mapping[str, Any]) -> None:
    """Refuse an entry that a network cannot start from, without looking at the file.

    Raises:
        InitialWeightsError: for other keys than ``file`` and ``source``, or a source that the network does not support.
    """
    _check_keys(entry)
    known = BACKBONE_SOURCES.get(name, ()) + NETWORK_SOURCES.get(name, ())
    if entry["source"] not in known:
        raise InitialWeightsError(
            f"network.weights.source: '{name}' cannot load '{entry['source']}', only {', '.join(known)}"
        )


def _check_keys(entry: Any) -> None:
    if not isinstance(entry, Mapping) or set(entry) != {"file", "source"}:
        raise InitialWeightsError(f"network.weights: expected the keys 'file' and 'source', got {entry!r}")


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
    check_source(name, entry)
    file, source, whole = weights_file(entry), entry["source"], NETWORK_SOURCES.get(name, ())
    module: Any = network if source in whole else network.backbone
    reader = importlib.import_module(reader_module(name))
    if name.startswith("deeplabv3"):
        reader.load_weights(module, file, source)
    else:
        (reader.load_network if source in whole else reader.load_backbone)(module, file)
