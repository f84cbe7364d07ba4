"""Resizing, and resizing where only a window of the result is needed.

Images are resized by Pillow's bilinear filter, anti-aliased when shrinking, as the released methods do; label maps by the
nearest pixel centre, or as torch's ``nearest`` does, which uses corners. A window is bit for bit the same as if cropped from the
full result.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

BILINEAR = Image.Resampling.BILINEAR


@dataclass(frozen=True)
class Window:
    """A rectangle of an image: first row and column, number of rows and columns."""

    top: int
    left: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the last two axes of an array."""
        return np.s_[self.top : self.top + self.height, self.left : self.left + self.width]


def resize_image(image: np.ndarray, size: tuple[int, int], window: Window | None = None) -> np.ndarray:
    """Bilinear, to (height, width); of that only the window, if one is given.

    When an image grows, Pillow filters along rows first and along columns second, and every pixel sees a few neighbours only.
    So the rows that the window needs are filtered first, its columns are cropped, and those are filtered second: the same
    numbers, fewer of them. When shrinking, the full result is small, and the order depends on Pillow's release.

    Args:
        image: (H, W, 3) uint8.
        size: of the whole result.
        window: of the result; None is all of it.
    """
    before, (height, width) = image.shape[:2], size
    window = window or Window(0, 0, height, width)
    if before == size:
        return image[window.slices]
    if height < before[0] or width < before[1]:
        return np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize((width, height), BILINEAR))[window.slices]
    first, last = _rows_needed(before[0], height, window)
    rows = Image.fromarray(np.ascontiguousarray(image[first:last]))
    if before[1] != width:
        rows = rows.resize((width, last - first), BILINEAR)
    if (window.left, window.width) != (0, width):
        rows = rows.crop((window.left, 0, window.left + window.width, last - first))
    if before[0] == height:
        return np.asarray(rows)
    if (first, last) != (0, before[0]):  # columns are filtered as those of the full image
        whole = Image.new("RGB", (window.width, before[0]))
        whole.paste(rows, (0, first))
        rows = whole
    return np.asarray(rows.resize((window.width, height), BILINEAR))[window.top : window.top + window.height]


def resize_labels(labels: np.ndarray, size: tuple[int, int], window: Window | None = None) -> np.ndarray:
    """Nearest pixel centre as OpenCV finds it, to (height, width); of that only the window, if one is given.

    Args:
        labels: (H, W) uint8 or uint16.
        size: of the whole result.
        window: of the result; None is all of it.
    """
    window = window or Window(0, 0, *size)
    if labels.shape == size:
        return labels[window.slices]
    if size == (window.height, window.width):
        return cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    rows = nearest(labels.shape[0], size[0])[window.slices[0]]
    columns = nearest(labels.shape[1], size[1])[window.slices[1]]
    return labels.take(rows, axis=0).take(columns, axis=1)


def nearest(before: int, after: int) -> np.ndarray:
    """(after,) index of the pixel whose centre is nearest, as OpenCV's exact variant rounds."""
    places = np.arange(before, dtype=np.float32)[:, None]
    found: np.ndarray = cv2.resize(places, (1, after), interpolation=cv2.INTER_NEAREST_EXACT)
    return found[:, 0].astype(np.int64)


def resize_as_torch(layers: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whole numbers (L, H, W) to (height, width) by torch's ``nearest`` in double precision.

    That takes the pixel which holds the upper left corner of the new one. Where the corner lies between two pixels, its rounding
    decides, which depends on the sizes: so it is not re-calculated here.
    """
    resized: np.ndarray = F.interpolate(torch.from_numpy(layers.astype(np.float64))[None], size, mode="nearest")[
        0
    ].numpy()
    return resized.astype(layers.dtype)


def _rows_needed(before: int, after: int, window: Window) -> tuple[int, int]:
    """Rows of an image that is enlarged, from the first to behind the last, from which the window's rows are computed."""
    if before == after:
        return window.top, window.top + window.height
    factor, reach = before / after, 2.0  # one more than the filter reaches, to be safe with rounding
    first = math.floor((window.top + 0.5) * factor - reach)
    last = math.ceil((window.top + window.height - 0.5) * factor + reach)
    return max(0, first), min(before, last)
