"""Photometric distortion of SSD (Liu et al., ECCV 2016), on 8-bit images as Mask2Former's released code applies it."""

from __future__ import annotations

import cv2
import numpy as np

BRIGHTNESS, HUE = 32.0, 18
"""Largest change in grey levels, and in OpenCV's half degrees; both ends may be drawn."""
FACTORS = (0.5, 1.5)
"""Of contrast and saturation."""


def color_jitter(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Brightness, then contrast, saturation and hue, each half of the time; contrast comes second or last.

    Args:
        image: (H, W, 3) uint8 RGB.
        generator: where all draws come from.

    Returns:
        (H, W, 3) uint8 RGB; rounded down and clipped after every change.
    """
    if generator.random() < 0.5:
        image = _scaled(image, 1.0, generator.uniform(-BRIGHTNESS, BRIGHTNESS))
    contrast_first = generator.random() < 0.5
    if contrast_first:
        image = _contrast(image, generator)
    image = _saturation_and_hue(image, generator)
    return image if contrast_first else _contrast(image, generator)


def _contrast(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return _scaled(image, generator.uniform(*FACTORS), 0.0) if generator.random() < 0.5 else image


def _saturation_and_hue(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    if generator.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 1] = _scaled(np.ascontiguousarray(hsv[..., 1]), generator.uniform(*FACTORS), 0.0)
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if generator.random() < 0.5:
        hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int16) + int(generator.integers(-HUE, HUE, endpoint=True))) % 180
        image = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return image


def _scaled(values: np.ndarray, factor: float, offset: float) -> np.ndarray:
    table = (np.arange(256, dtype=np.float32) * np.float32(factor) + np.float32(offset)).clip(0, 255).astype(np.uint8)
    return cv2.LUT(np.ascontiguousarray(values), table)
