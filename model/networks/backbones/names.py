"""How a recipe names a backbone that timm builds, told apart from Segue's own without importing either."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any

TIMM = "timm/"
"""Prefix of the names of timm's models, as in ``timm/tf_efficientnet_lite0``."""


def timm_model(backbone: Any) -> str | None:
    """Name of a model in timm; None for one of Segue's own backbones."""
    return backbone.removeprefix(TIMM) if isinstance(backbone, str) and backbone.startswith(TIMM) else None


def timm_version(network: Mapping[str, Any]) -> str | None:
    """The installed version of timm where a recipe's network has one of its backbones; None elsewhere.

    Raises:
        ValueError: if timm is needed and not installed.
    """
    if timm_model(network.get("backbone")) is None:
        return None
    try:
        return metadata.version("timm")
    except metadata.PackageNotFoundError:
        raise ValueError(f"network.backbone '{network['backbone']}' needs timm: run `make setup`") from None
