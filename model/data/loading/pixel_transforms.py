"""Augmentation and evaluation geometry of dense labelling.

A transform takes an (H, W, 3) uint8 image, its (H, W) label map and a random generator, and returns both changed alike. It
draws from nothing but the generator. Images are resized as the released methods do (bilinear with anti-aliasing when
shrinking), labels by the nearest pixel centre.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import cv2
import numpy as np
from pydantic import Field

from model.common.names import unknown_name
from model.common.registry import checked_arguments
from model.data.loading.arguments import Probability, Range, Side
from model.data.loading.resampling import Window, resize_image, resize_labels

Pair = tuple[np.ndarray, np.ndarray]


class TransformError(ValueError):
    """A transform that does not exist or cannot be built; the message names it."""


class Transform(Protocol):
    """What a loader applies to an image and its labels."""

    def __call__(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Pair:
        """Both changed alike."""


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop of random area and aspect ratio, resized to a square; then a mirror image half of the time.

    The training transform of MiB, SDR, PLOP, DKD and STAR. The area is a factor of the image's area; ten draws that do not
    fit inside the image are followed by the largest centred crop of an allowed aspect ratio. With the released factors
    0.5…2.0 nothing is ever padded or seen from further away: factors above 1 cannot fit.

    Attributes:
        size: side of the result.
        area: smallest and largest area factor.
        aspect: smallest and largest width / height.
        flip: probability of mirroring.
    """

    size: Side
    area: Range = (0.5, 2.0)
    aspect: Range = (3 / 4, 4 / 3)
    flip: Probability = 0.5

    def __call__(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Pair:
        top, left, height, width = self._window(labels.shape[0], labels.shape[1], generator)
        window = np.s_[top : top + height, left : left + width]
        image, labels = resize(image[window], labels[window], self.size, self.size)
        return mirror(image, labels, self.flip, generator)

    def _window(self, height: int, width: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
        lowest, highest = self.aspect
        for _ in range(10):
            area = height * width * generator.uniform(*self.area)
            aspect = math.exp(generator.uniform(math.log(lowest), math.log(highest)))
            w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if 0 < w <= width and 0 < h <= height:
                return int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1)), h, w
        h, w = height, width
        if width / height < lowest:
            h = round(width / lowest)
        elif width / height > highest:
            w = round(height * highest)
        return (height - h) // 2, (width - w) // 2, h, w


@dataclass(frozen=True)
class ScaleCrop:
    """Isotropic random scale, padding where the result is too small, random square crop, mirror image.

    The training transform of SSUL and BARM. Padding is black and labelled ``pad_label``: 0 = background, as released.

    Attributes:
        size: side of the result.
        scale: smallest and largest factor.
        flip: probability of mirroring.
        pad_label: label of padded pixels.
        pad_all_sides: as released: what one direction lacks is added, halved and rounded up, on all four sides, and the crop is
            drawn from the result, so that it may show a border where the image was large enough. Otherwise only what is
            missing is added.
    """

    size: Side
    scale: Range = (0.5, 2.0)
    flip: Probability = 0.5
    pad_label: Annotated[int, Field(ge=0, le=255)] = 0
    pad_all_sides: bool = False

    def __call__(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Pair:
        factor = generator.uniform(*self.scale)
        height, width = (max(1, int(side * factor)) for side in labels.shape)
        border = released_border(height, width, self.size) if self.pad_all_sides else 0
        rows, columns = (crop(side, border, self.size, generator) for side in (height, width))
        window = Window(rows.start, columns.start, rows.length, columns.length)
        image, labels = resize(image, labels, height, width, window)
        edges = ((rows.before, rows.after), (columns.before, columns.after))
        if rows.length < self.size or columns.length < self.size:
            image, labels = np.pad(image, (*edges, (0, 0))), np.pad(labels, edges, constant_values=self.pad_label)
        return mirror(image, labels, self.flip, generator)


@dataclass(frozen=True)
class Crop:
    """Where a crop meets an image, along one direction.

    Attributes:
        start: first position of the image that it shows.
        length: how many it shows.
        before: padding before them.
        after: padding behind them.
    """

    start: int
    length: int
    before: int
    after: int


def crop(side: int, border: int, size: int, generator: np.random.Generator) -> Crop:
    """A crop of a length, drawn from a side with a border at both ends; what is still missing is added in equal parts."""
    padded = side + 2 * border
    first = int(generator.integers(max(padded, size) - size + 1)) - border - max(0, size - padded) // 2
    start, end = max(0, first), min(side, first + size)
    return Crop(start, end - start, start - first, first + size - end)


def released_border(height: int, width: int, size: int) -> int:
    """Pixels that SSUL's released code adds on each side of an image that is smaller than a crop: first for the width."""
    border = (1 + size - width) // 2 if width < size else 0
    lacking = size - (height + 2 * border)
    return border + (1 + lacking) // 2 if lacking > 0 else border


@dataclass(frozen=True)
class ResizeCentreCrop:
    """Short side to ``size``, then the centred square: the geometry of every released DeepLab-family evaluation."""

    size: Side

    def __call__(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Pair:
        height, width = labels.shape
        if height <= width:
            height, width = self.size, int(self.size * width / height)
        else:
            height, width = int(self.size * height / width), self.size
        top, left = round((height - self.size) / 2), round((width - self.size) / 2)
        return resize(image, labels, height, width, Window(top, left, self.size, self.size))


@dataclass(frozen=True)
class FullImage:
    """The unchanged image: batches of one, unless all images have the same size."""

    def __call__(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Pair:
        return image, labels


TRANSFORMS: Mapping[str, type] = {
    "random-resized-crop": RandomResizedCrop,
    "scale-crop": ScaleCrop,
    "resize-centre-crop": ResizeCentreCrop,
    "full-image": FullImage,
}


def build_transform(name: str, **arguments: Any) -> Transform:
    """The transform of a recipe.

    Raises:
        TransformError: if the name or an argument does not exist, or a value is of the wrong type or range.
    """
    if name not in TRANSFORMS:
        raise TransformError(unknown_name("transform", name, TRANSFORMS))
    maker = TRANSFORMS[name]
    transform: Transform = maker(**checked_arguments(maker, arguments, TransformError, f"transform '{name}'"))
    return transform


def resize(image: np.ndarray, labels: np.ndarray, height: int, width: int, window: Window | None = None) -> Pair:
    """Image bilinear (anti-aliased when shrinking), labels nearest; of both only a window, if one is given."""
    return resize_image(image, (height, width), window), resize_labels(labels, (height, width), window)


def mirror(image: np.ndarray, labels: np.ndarray, probability: float, generator: np.random.Generator) -> Pair:
    """Left and right swapped with a probability."""
    if generator.random() < probability:
        return cv2.flip(image, 1), cv2.flip(labels, 1)
    return image, labels
