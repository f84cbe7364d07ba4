"""Which function makes the training batches of a family of networks.

The table holds text, resolved when asked, so that the fingerprint of a training follows only the loader that it uses.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

LOADERS = {
    "mask": "model.training.mask_batches:mask_batches",
    "per-pixel": "model.training.pixel_batches:pixel_batches",
}
"""Family to ``module:function``."""


def module_of(family: str) -> str:
    """Dotted name of the module that a family's loader lives in; nothing is imported."""
    return LOADERS[family].partition(":")[0]


def resolve(family: str) -> Callable[..., Any]:
    """The function that makes the batches of a family."""
    module, _, function = LOADERS[family].partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), function)
    return found
