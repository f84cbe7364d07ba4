"""What networks see of a photograph: ImageNet's mean and deviation taken out."""

from __future__ import annotations

import cv2
import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


_MEAN, _STD = (np.float32(255) * np.array(values, dtype=np.float32) for values in (IMAGENET_MEAN, IMAGENET_STD))
_TABLES = tuple(((np.arange(256, dtype=np.float32)[:, None] - _MEAN) * (1 / _STD)).T.copy())
"""What becomes of each grey level, by channel."""


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (3, H, W) float32 with ImageNet's mean and deviation."""
    channels = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for channel, values, table in zip(channels, cv2.split(np.ascontiguousarray(image)), _TABLES, strict=True):
        cv2.LUT(values, table, dst=channel)
    return channels
