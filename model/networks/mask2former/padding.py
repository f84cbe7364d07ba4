"""Images of different sizes in one tensor, and masks back out of it."""

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


def resize_masks(masks: Tensor, padded: tuple[int, int], image: tuple[int, int], original: tuple[int, int]) -> Tensor:
    """Bring mask logits (Q, h, w) of a padded image to the original resolution.

    They are enlarged to the padded size, cropped to the image and, if that differs, resized once more to (H, W) of the original
    file; bilinear both times.

    Returns:
        (Q, H, W), a new tensor; a mask does not depend on how many others there are, not even in its last bit.
    """
    if len(masks) == 0:
        return masks.new_empty((0, *original))
    # As a batch of images with one channel: for some numbers of channels torch has other kernels, which round differently.
    masks = F.interpolate(masks[:, None], size=padded, mode="bilinear", align_corners=False)
    masks = masks[..., : image[0], : image[1]]
    if image != original:
        masks = F.interpolate(masks, size=original, mode="bilinear", align_corners=False)
    return masks[:, 0]
