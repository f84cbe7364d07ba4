"""What networks see of a photograph: ImageNet's mean and deviation taken out."""

from __future__ import annotations

import numpy as np

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 to (3, H, W) float32 with ImageNet's mean and deviation."""
    mean = 255 * np.array(IMAGENET_MEAN, dtype=np.float32)
    scale = 1 / (255 * np.array(IMAGENET_STD, dtype=np.float32))
    return np.ascontiguousarray(((image.astype(np.float32) - mean) * scale).transpose(2, 0, 1))
