"""Which function makes the training batches of a family of networks.

The table holds text, resolved when asked, so that the fingerprint of a training follows only the loader that it uses.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

LOADERS = {
    "mask": "model.training.mask_batches:mask_batches",
    "per-pixel": "model.training.pixel_batches:pixel_batches",
}
"""Family to ``module:function``."""

TRANSFORMS = {
    "mask": "model.data.loading.mask_transforms:build_mask_transform",
    "per-pixel": "model.data.loading.pixel_transforms:build_transform",
}
"""Family to what builds its augmentation from a recipe."""


def module_of(family: str) -> str:
    """Dotted name of the module that a family's loader lives in; nothing is imported."""
    return LOADERS[family].partition(":")[0]


def resolve(family: str) -> Callable[..., Any]:
    """The function that makes the batches of a family."""
    module, _, function = LOADERS[family].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found


def build_transform(family: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """The augmentation of a recipe, as the family's loader builds it.

    Raises:
        ValueError: if the name or an argument does not exist, or a value makes no sense.
    """
    module, _, function = TRANSFORMS[family].partition(":")
    return getattr(importlib.import_module(module), function)(name, **arguments)
