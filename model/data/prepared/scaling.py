"""Scaling photographs and their label maps down while they are prepared."""

from __future__ import annotations

import numpy as np
from PIL import Image


def scaled_size(size: tuple[int, int], long_side: int | None) -> tuple[int, int]:
    """Height and width with a longer side of at most ``long_side`` pixels, the proportion kept; never larger than before."""
    if long_side is None or max(size) <= long_side:
        return size
    height, width = (max(1, round(side * long_side / max(size))) for side in size)
    return height, width


def scaled_photograph(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W, 3) uint8 at another (height, width), by Pillow's Lanczos filter, which takes in every pixel."""
    return np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))


def scaled_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(H, W) label map at another (height, width): each pixel has the label at its centre, none is mixed."""
    places = [
        ((2 * np.arange(after) + 1) * before) // (2 * after) for before, after in zip(labels.shape, size, strict=True)
    ]
    return labels[np.ix_(*places)]
