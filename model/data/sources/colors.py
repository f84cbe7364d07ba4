"""Colours of classes in pictures."""

from __future__ import annotations

import colorsys

_GOLDEN = 0.6180339887498949


def class_color(number: int) -> tuple[int, int, int]:
    """RGB of the class with this number: neighbours differ in hue, turns of the hue circle in brightness."""
    hue = (number * _GOLDEN) % 1.0
    value = (0.95, 0.7, 0.5)[number // 12 % 3]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.55 + 0.35 * (number % 2), value)
    return round(255 * red), round(255 * green), round(255 * blue)
