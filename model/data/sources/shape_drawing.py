"""Textures and forms from which the ``shapes`` scenes are composed. Everything is a function of its arguments and a generator."""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Mapping

import cv2
import numpy as np

Texture = Callable[[np.ndarray, np.ndarray, float, np.random.Generator], np.ndarray]


def _wave(position: np.ndarray, period: float) -> np.ndarray:
    return (np.sin(2 * np.pi / period * position) > 0).astype(np.float32)


def _rows(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return _wave(y, period)


def _columns(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return _wave(x, period)


def _diagonal(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return _wave((x + y) / np.sqrt(2), period)


def _checks(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return np.abs(_wave(x, 1.4 * period) - _wave(y, 1.4 * period))


def _dots(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return (np.cos(2 * np.pi / period * x) + np.cos(2 * np.pi / period * y) > 0.6).astype(np.float32)


def _grid(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return (np.maximum(np.cos(2 * np.pi / period * x), np.cos(2 * np.pi / period * y)) > 0.8).astype(np.float32)


def _rings(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    top, left = generator.uniform(0, y.shape[0]), generator.uniform(0, y.shape[1])
    return _wave(np.hypot(y - y[0, 0] - top, x - x[0, 0] - left), period)


def _zigzag(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return _wave(y + np.abs((x / period) % 2 - 1) * period, period)


def _grain(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    return generator.random(y.shape, dtype=np.float32)


def _clouds(y: np.ndarray, x: np.ndarray, period: float, generator: np.random.Generator) -> np.ndarray:
    coarse = generator.random((max(2, int(y.shape[0] / period)), max(2, int(y.shape[1] / period))), dtype=np.float32)
    return cv2.resize(coarse, y.shape[::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)


TEXTURES: Mapping[str, Texture] = {
    "rows": _rows,
    "grain": _grain,
    "checks": _checks,
    "columns": _columns,
    "clouds": _clouds,
    "dots": _dots,
    "diagonal": _diagonal,
    "rings": _rings,
    "grid": _grid,
    "zigzag": _zigzag,
}
SCALES: Mapping[str, float] = {"fine": 5.0, "small": 7.0, "middle": 10.0, "large": 14.0, "huge": 20.0}

_ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)


def _polygon(corners: int, turn: float = -np.pi / 2) -> np.ndarray:
    angles = turn + np.linspace(0, 2 * np.pi, corners, endpoint=False)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star(points: int, inner: float) -> np.ndarray:
    outline = _polygon(2 * points)
    outline[1::2] *= inner
    return outline


def _cross(width: float) -> np.ndarray:
    w = width
    return np.array(
        [(-w, -1), (w, -1), (w, -w), (1, -w), (1, w), (w, w), (w, 1), (-w, 1), (-w, w), (-1, w), (-1, -w), (-w, -w)]
    )


def _crescent() -> np.ndarray:
    outer = _CIRCLE[np.abs(_ANGLES - np.pi) <= 2.2]
    inner = outer[::-1] * (0.75, 1.0) + (0.45, 0.0)
    return np.concatenate([outer, inner])


def _heart() -> np.ndarray:
    t = _ANGLES
    x, y = 16 * np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y], axis=1) / 16


FORMS: Mapping[str, tuple[np.ndarray, ...]] = {
    "disc": (_CIRCLE,),
    "triangle": (_polygon(3) * 1.2,),
    "cross": (_cross(0.36),),
    "ring": (_CIRCLE, 0.5 * _CIRCLE),
    "bar": (np.array([(-1.35, -0.42), (1.35, -0.42), (1.35, 0.42), (-1.35, 0.42)]),),
    "star": (_star(5, 0.42) * 1.2,),
    "square": (_polygon(4, np.pi / 4) * 1.15,),
    "crescent": (_crescent() * 1.1,),
    "heart": (_heart(),),
    "frame": (_polygon(4, np.pi / 4) * 1.25, _polygon(4, np.pi / 4) * 0.75),
}
"""Outlines in units of the radius, y downwards; a second outline is a hole."""

PATTERNS: Mapping[str, Texture | None] = {
    "plain": None,
    "striped": _rows,
    "barred": _columns,
    "checked": _checks,
    "dotted": _dots,
    "slanted": _diagonal,
    "gridded": _grid,
    "grained": _grain,
    "clouded": _clouds,
    "zigzagged": _zigzag,
}


def form_mask(form: str, shape: tuple[int, int], centre: tuple[float, float], radius: float, turn: float) -> np.ndarray:
    """(H, W) bool mask of a form; ``centre`` is (x, y), ``turn`` in radians."""
    cosine, sine = np.cos(turn), np.sin(turn)
    rotation = np.array([(cosine, -sine), (sine, cosine)])
    outlines = [np.rint((outline * radius) @ rotation.T + centre).astype(np.int32) for outline in FORMS[form]]
    mask = np.zeros(shape, dtype=np.uint8)
    cv2.fillPoly(mask, outlines, 1)  # even-odd rule: a second outline is a hole
    return mask.astype(bool)


def paint(
    texture: Texture | None,
    shape: tuple[int, int],
    period: float,
    tones: tuple[np.ndarray, np.ndarray],
    generator: np.random.Generator,
) -> np.ndarray:
    """(H, W, 3) float32 picture of a texture between two RGB tones; without texture the first tone."""
    first, second = tones
    if texture is None:
        return np.broadcast_to(first.astype(np.float32), (*shape, 3))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    shift = generator.uniform(0, period, size=2)
    mix = texture(y + shift[0], x + shift[1], period, generator)[..., None]
    return (first + mix * (second - first)).astype(np.float32)


def tones(
    hue: float, contrast: float, saturations: tuple[float, float], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Two RGB tones (0…255) of one hue that differ in brightness; the saturation is drawn from a range."""
    saturation = generator.uniform(*saturations)
    bright = generator.uniform(0.45 + contrast / 2, 0.98)
    values = [bright, max(0.05, bright - contrast)]
    first, second = values if generator.random() < 0.5 else values[::-1]
    rgb = [colorsys.hsv_to_rgb(hue % 1.0, saturation, value) for value in (first, second)]
    return 255 * np.array(rgb[0], dtype=np.float32), 255 * np.array(rgb[1], dtype=np.float32)


def regions(shape: tuple[int, int], number: int, generator: np.random.Generator) -> np.ndarray:
    """(H, W) map of 0…number−1: cells around random points, with wavy borders."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    side = max(shape)
    bend = generator.normal(0, 0.09 * side, size=(2, 4, 4)).astype(np.float32)
    y, x = (
        axis + cv2.resize(b, shape[::-1], interpolation=cv2.INTER_CUBIC) for axis, b in zip((y, x), bend, strict=True)
    )
    points = generator.uniform(0.1, 0.9, size=(number, 2)) * shape
    distance = [(y - py) ** 2 + (x - px) ** 2 for py, px in points]
    return np.argmin(distance, axis=0)
