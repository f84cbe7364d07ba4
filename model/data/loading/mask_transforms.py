"""Augmentation for networks that predict sets of masks: Mask2Former's two published pipelines.

A transform takes an (H, W, 3) uint8 image, its segments and a random generator, and returns both changed alike, with the
(height, width) that is image and not padding. Images are resized bilinearly (anti-aliased when shrinking), segments by the
nearest pixel centre, those of label maps as torch's ``nearest`` does. Padding is on the right and at the bottom: 128 in the
image, no segment. Transforms that do not pad leave it to the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np

from model.common.names import unknown_name
from model.common.registry import checked_arguments
from model.data.loading.arguments import Probability, Range, Side
from model.data.loading.color_jitter import color_jitter
from model.data.loading.resampling import Window, resize_as_torch, resize_image
from model.data.prepared.segments import Segments

PADDING = 128
DIVISOR = 32
"""Sides of a batch are multiples of it, because networks of the family halve images five times."""

Augmented = tuple[np.ndarray, Segments, tuple[int, int]]
Size = tuple[int, int]

_CROP_TRIES = 10


class MaskTransformError(ValueError):
    """A transform that does not exist or cannot be built; the message names the argument."""


class MaskTransform(Protocol):
    """What a loader applies to an image and its segments."""

    @property
    def fixed_size(self) -> bool:
        """Whether all results are of one size; otherwise batches are padded, and hold images of one orientation."""

    def __call__(self, image: np.ndarray, segments: Segments, generator: np.random.Generator) -> Augmented:
        """Both changed alike."""


@dataclass(frozen=True)
class ShortestEdgeCrop:
    """The pipeline of ADE20K: short side drawn from a list, random crop, colour jitter, horizontal flip, padding.

    Attributes:
        size: side of the result; smaller images are padded.
        shortest: sides to draw from.
        longest: the long side is never scaled beyond it; None = 4 · the largest of ``shortest``.
        category_area: a crop in which one class covers a larger share of the labelled pixels, or which has one class only,
            is drawn again, at most ten times; 1 accepts every crop (all released configurations of ADE20K).
        color: whether colours are distorted.
        flip: probability of mirroring.
    """

    size: Side
    shortest: tuple[int, ...]
    longest: Side | None = None
    category_area: float = 1.0
    color: bool = True
    flip: Probability = 0.5

    fixed_size = True

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_sides(self.shortest)
        if not 0 < self.category_area <= 1:
            raise MaskTransformError(f"category_area = {self.category_area}: expected a share above 0, at most 1")

    def __call__(self, image: np.ndarray, segments: Segments, generator: np.random.Generator) -> Augmented:
        side = self.shortest[int(generator.integers(len(self.shortest)))]
        longest = 4 * max(self.shortest) if self.longest is None else self.longest
        size = shortest_edge_size(image.shape[:2], side, longest)
        image, segments = resize(image, segments, size, self._window(size, segments, generator))
        if self.color:
            image = color_jitter(image, generator)
        return pad(*mirror(image, segments, self.flip, generator), self.size)

    def _window(self, size: Size, segments: Segments, generator: np.random.Generator) -> Window:
        """A crop of the resized image."""
        height, width = (min(self.size, side) for side in size)
        classes = resize_classes(segments, size) if self.category_area < 1 else None
        for _ in range(_CROP_TRIES):
            top = int(generator.integers(size[0] - height + 1))
            left = int(generator.integers(size[1] - width + 1))
            window = Window(top, left, height, width)
            if classes is None or _mixed(classes[window.slices], self.category_area):
                break
        return window


@dataclass(frozen=True)
class ShortestEdge:
    """The pipeline of ECLIPSE on COCO: short side drawn from a list, mirror image; neither crop nor padding.

    Attributes:
        shortest: sides to draw from.
        longest: the long side is never scaled beyond it.
        flip: probability of mirroring.
    """

    shortest: tuple[int, ...]
    longest: int
    flip: float = 0.5

    fixed_size = False

    def __post_init__(self) -> None:
        _check_sides(self.shortest)

    def __call__(self, image: np.ndarray, segments: Segments, generator: np.random.Generator) -> Augmented:
        side = self.shortest[int(generator.integers(len(self.shortest)))]
        image, segments = resize(image, segments, shortest_edge_size(image.shape[:2], side, self.longest))
        return *mirror(image, segments, self.flip, generator), (image.shape[0], image.shape[1])


@dataclass(frozen=True)
class LargeScaleJitter:
    """The pipeline of COCO: horizontal flip, scale drawn from a wide range, crop or padding to a square.

    Attributes:
        size: side of the result.
        scale: smallest and largest factor; at 1 the long side has the length ``size``.
        flip: probability of mirroring.
    """

    size: Side
    scale: Range = (0.1, 2.0)
    flip: Probability = 0.5

    fixed_size = True

    def __post_init__(self) -> None:
        _check_size(self.size)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise MaskTransformError(f"scale = {list(self.scale)}: expected two positive factors, ascending")

    def __call__(self, image: np.ndarray, segments: Segments, generator: np.random.Generator) -> Augmented:
        image, segments = mirror(image, segments, self.flip, generator)
        factor = self.size * generator.uniform(*self.scale) / max(image.shape[:2])
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        share = generator.random()
        top, left = (round(max(0, side - self.size) * share) for side in (height, width))
        window = Window(top, left, min(self.size, height), min(self.size, width))
        return pad(*resize(image, segments, (height, width), window), self.size)


@dataclass(frozen=True)
class FixedSquare:
    """No augmentation: the long side becomes ``size``, everything else is padding."""

    size: Side

    fixed_size = True

    def __post_init__(self) -> None:
        _check_size(self.size)

    def __call__(self, image: np.ndarray, segments: Segments, generator: np.random.Generator) -> Augmented:
        factor = self.size / max(image.shape[:2])
        height, width = (max(1, round(side * factor)) for side in image.shape[:2])
        return pad(*resize(image, segments, (height, width)), self.size)


MASK_TRANSFORMS: Mapping[str, Callable[..., MaskTransform]] = {
    "shortest-edge": ShortestEdge,
    "shortest-edge-crop": ShortestEdgeCrop,
    "large-scale-jitter": LargeScaleJitter,
    "fixed-square": FixedSquare,
}


def build_mask_transform(name: str, **arguments: Any) -> MaskTransform:
    """The transform of a recipe.

    Raises:
        MaskTransformError: if the name or an argument does not exist, or a value makes no sense.
    """
    if name not in MASK_TRANSFORMS:
        raise MaskTransformError(unknown_name("transform of segments", name, MASK_TRANSFORMS))
    maker = MASK_TRANSFORMS[name]
    return maker(**checked_arguments(maker, arguments, MaskTransformError, f"transform '{name}'"))


def shortest_edge_size(size: Size, shortest: int, longest: int) -> Size:
    """(height, width) with the short side as asked for, unless the long one would exceed ``longest``."""
    factor = min(shortest / min(size), longest / max(size))
    height, width = (int(side * factor + 0.5) for side in size)
    return height, width


def resize(
    image: np.ndarray, segments: Segments, size: Size, window: Window | None = None
) -> tuple[np.ndarray, Segments]:
    """Image bilinear, segments nearest, to (height, width); of both only a window, if one is given."""
    window = window or Window(0, 0, *size)
    return resize_image(image, size, window), segments.drawn(_resize_layers(segments, size, window))


def resize_classes(segments: Segments, size: Size) -> np.ndarray:
    """(H, W) int64 label of each pixel of the resized image, -1 without one."""
    return segments.drawn(_resize_layers(segments, size, Window(0, 0, *size))).class_map()


def _resize_layers(segments: Segments, size: Size, window: Window) -> np.ndarray:
    layers = segments.layers
    if layers.shape[1:] == size:
        return layers[:, *window.slices]
    if segments.nearest == "corner":
        return resize_as_torch(layers, size)[:, *window.slices]
    rows, columns = (
        ((np.arange(after) + 0.5) * before / after).astype(np.int64)
        for before, after in zip(layers.shape[1:], size, strict=True)
    )
    return layers.take(rows[window.slices[0]], axis=1).take(columns[window.slices[1]], axis=2)


def mirror(
    image: np.ndarray, segments: Segments, probability: float, generator: np.random.Generator
) -> tuple[np.ndarray, Segments]:
    """Left and right swapped with a probability."""
    if generator.random() < probability:
        return cv2.flip(image, 1), segments.drawn(segments.layers[..., ::-1])
    return image, segments


def pad(image: np.ndarray, segments: Segments, size: int) -> Augmented:
    """Fill up to a square at the right and at the bottom."""
    height, width = image.shape[:2]
    edges = ((0, size - height), (0, size - width))
    layers = np.pad(segments.layers, ((0, 0), *edges))
    return np.pad(image, (*edges, (0, 0)), constant_values=PADDING), segments.drawn(layers), (height, width)


def _mixed(classes: np.ndarray, limit: float) -> bool:
    counts = np.bincount(classes[classes >= 0])
    return bool(np.count_nonzero(counts) > 1 and counts.max() < limit * counts.sum())


def _check_sides(sides: tuple[int, ...]) -> None:
    if not sides or min(sides) < 1:
        raise MaskTransformError(f"shortest = {list(sides)}: expected sides of at least 1 pixel")


def _check_size(size: int) -> None:
    if size < DIVISOR or size % DIVISOR:
        raise MaskTransformError(f"size = {size}: expected a multiple of {DIVISOR}")
