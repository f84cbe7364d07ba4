"""Images of different sizes in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from model.networks.mask2former.network import SIZE_DIVISOR


def padded_size(sizes: Sequence[tuple[int, int]], divisor: int = SIZE_DIVISOR) -> tuple[int, int]:
    """The smallest (height, width) that holds all sizes and is a multiple of ``divisor``."""
    height, width = (-(-max(extent) // divisor) * divisor for extent in zip(*sizes, strict=True))
    return height, width


def pad_images(images: Sequence[Tensor], divisor: int = SIZE_DIVISOR) -> Tensor:
    """Stack normalised images (3, h, w), padded with zeros at the right and at the bottom.

    Returns:
        (B, 3, H, W), H and W multiples of ``divisor``.
    """
    height, width = padded_size([(image.shape[-2], image.shape[-1]) for image in images], divisor)
    return torch.stack([F.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2])) for image in images])
