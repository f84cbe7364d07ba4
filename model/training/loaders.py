"""Which function makes the training batches of a family of networks.

The table holds text, resolved when asked, so that the fingerprint of a training follows only the loader that it uses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from model.common.registry import Registry


class LoaderError(ValueError):
    """A family of networks that no loader serves."""


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


_LOADERS = Registry("family of networks", LOADERS, LoaderError)
_TRANSFORMS = Registry("family of networks", TRANSFORMS, LoaderError)


def module_of(family: str) -> str:
    """Dotted name of the module that a family's loader lives in; nothing is imported."""
    return _LOADERS.module_of(family)


def resolve(family: str) -> Callable[..., Any]:
    """The function that makes the batches of a family."""
    found: Callable[..., Any] = _LOADERS.resolve(family)
    return found


def build_transform(family: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """The augmentation of a recipe, as the family's loader builds it.

    Raises:
        ValueError: if the name or an argument does not exist, or a value makes no sense.
    """
    return _TRANSFORMS.resolve(family)(name, **arguments)
