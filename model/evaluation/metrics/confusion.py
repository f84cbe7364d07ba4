"""Raw confusion matrices: ground truth against prediction, before any protocol is applied.

Rows are *all* categories of the dataset in its own order, then one row for background and one for void; columns are the
network's positions, 0 for the background and k for the k-th class in learning order. Nothing is merged or ignored while
counting, so any protocol (``model.evaluation.protocols``) with the same geometry can be applied to a stored matrix.

Images that have at least one seen class and images that have none are counted in two layers, because some protocols
evaluate only the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.common.array_files import ArrayFileError, read_arrays
from model.common.files import atomic_file
from model.evaluation.metrics.runs import has_long_runs, runs_of_pairs

WITH_SEEN, WITHOUT_SEEN = 0, 1
"""Layers of :attr:`ConfusionMatrix.counts`."""

_EXACT = 2**24
"""Number of pixels up to which OpenCV, which counts in single precision, counts exactly."""

SHORT_RUN = 8
"""Pixels that a run of equal pairs has to have on average, so that finding runs is faster than counting pixels."""


class ConfusionError(ValueError):
    """Labels, predictions or a stored matrix that do not fit the class table."""


@dataclass(frozen=True)
class ConfusionMatrix:
    """Pixel counts of one evaluation.

    Attributes:
        categories: every category id of the dataset, in table order; rows 0 … C-1. Row C is background, row C+1 void.
        classes: category ids in learning order; columns 1 … K. Column 0 is "background".
        counts: (2, C+2, K+1) int64; layer 0: images with at least one seen class, layer 1: the others.
        images: number of images in each layer.
        parts: (N, 5) int64, the pairs of each image that occur: image in the order of evaluation, layer, row, column, number of
            pixels; for resampling images. None where they were not kept.
    """

    categories: tuple[int, ...]
    classes: tuple[int, ...]
    counts: np.ndarray
    images: tuple[int, int]
    parts: np.ndarray | None = None

    def __post_init__(self) -> None:
        shape = (2, len(self.categories) + 2, len(self.classes) + 1)
        if self.counts.shape != shape:
            raise ConfusionError(
                f"a confusion matrix of {self.counts.shape} does not fit its classes, which need {shape}"
            )
        _require_subset(self.classes, self.categories)

    @property
    def background_row(self) -> int:
        """Row of the pixels labelled as background."""
        return len(self.categories)

    def save(self, path: Path) -> None:
        """Write one npz file with the class ids inside; equal matrices give equal bytes."""
        with atomic_file(path) as stream:
            arrays = {
                "counts": self.counts,
                "categories": np.asarray(self.categories, np.int64),
                "classes": np.asarray(self.classes, np.int64),
                "images": np.asarray(self.images, np.int64),
            }
            if self.parts is not None:
                arrays["parts"] = self.parts.astype(np.int32)
            np.savez_compressed(stream, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> ConfusionMatrix:
        """Read what :meth:`save` wrote.

        Raises:
            ConfusionError: if the file is not a stored confusion matrix.
            FileNotFoundError: if there is no such file.
        """
        try:
            arrays = read_arrays(path, ("counts", "categories", "classes", "images"))
        except ArrayFileError as error:
            raise ConfusionError(
                f"{path} is not a stored confusion matrix ({error}); delete it to evaluate again"
            ) from error
        return cls(
            categories=tuple(arrays["categories"].tolist()),
            classes=tuple(arrays["classes"].tolist()),
            counts=arrays["counts"],
            images=(int(arrays["images"][0]), int(arrays["images"][1])),
            parts=arrays["parts"].astype(np.int64) if "parts" in arrays else None,
        )

    def resampled(self, times: np.ndarray) -> ConfusionMatrix:
        """The matrix if each image had been evaluated so many times.

        Args:
            times: (images,) integers from 0, by image in the order of evaluation.

        Raises:
            ConfusionError: if the pairs of single images were not kept, or there are other images.
        """
        if self.parts is None:
            raise ConfusionError("the counts of single images were not kept; evaluate again")
        if len(times) != sum(self.images):
            raise ConfusionError(f"there are {sum(self.images)} images, not {len(times)}")
        image, layer, row, column, pixels = self.parts.T
        places = np.ravel_multi_index((layer, row, column), self.counts.shape)
        counts = np.bincount(places, weights=pixels * times[image], minlength=self.counts.size)
        with_seen = np.zeros(len(times), bool)
        with_seen[image[layer == WITH_SEEN]] = True
        seen = int(times[with_seen].sum())
        images = (seen, int(times.sum()) - seen)
        return ConfusionMatrix(
            self.categories, self.classes, counts.astype(np.int64).reshape(self.counts.shape), images
        )


class ConfusionAccumulator:
    """Counts (label, prediction) pairs image by image.

    Args:
        categories: every category id of the dataset, in table order.
        classes: category ids in learning order: what the network can predict besides the background.
        background_id: raw label of background pixels; None if there is none.
        void_id: raw label of pixels that are never evaluated; None if there is none.

    Raises:
        ConfusionError: if ids are repeated, clash, or ``classes`` is not a subset of ``categories``.
    """

    def __init__(
        self,
        categories: Sequence[int],
        classes: Sequence[int],
        background_id: int | None = None,
        void_id: int | None = None,
    ) -> None:
        self.categories = tuple(int(c) for c in categories)
        self.classes = tuple(int(c) for c in classes)
        _require_subset(self.classes, self.categories)
        labels = [*self.categories, *(i for i in (background_id, void_id) if i is not None)]
        if len(set(labels)) != len(labels) or min(labels) < 0:
            raise ConfusionError("category ids, background and void need different labels of zero or more")
        self._columns = len(self.classes) + 1
        self._unknown = len(self.categories) + 2
        self._rows = np.full(max([255, *labels]) + 1, self._unknown, np.int64)
        self._rows[list(self.categories)] = np.arange(len(self.categories))
        if background_id is not None:
            self._rows[background_id] = len(self.categories)
        if void_id is not None:
            self._rows[void_id] = len(self.categories) + 1
        row_of = {category: row for row, category in enumerate(self.categories)}
        self._seen_rows = [row_of[c] for c in self.classes]
        self._counts = np.zeros((2, self._unknown, self._columns), np.int64)
        self._images = [0, 0]
        self._parts: list[
            tuple[int, np.ndarray, np.ndarray]
        ] = []  # of each image: layer, flat places, numbers of pixels

    def add(self, labels: Any, prediction: Any, has_seen_class: bool | None = None) -> None:
        """Count one image.

        Args:
            labels: (H, W) raw category ids, as prepared.
            prediction: (H, W) positions 0 … K.
            has_seen_class: whether the *whole* image has a seen class; None: decided from ``labels``. The two differ
                only when ``labels`` is a crop.

        Raises:
            ConfusionError: for different shapes, an unknown label, or a position the network cannot have.
        """
        labels, prediction = np.asarray(labels), np.asarray(prediction)
        if labels.shape != prediction.shape:
            raise ConfusionError(
                f"labels are {labels.shape} and the prediction is {prediction.shape}; resize one of them first"
            )
        if labels.size == 0:
            raise ConfusionError("an image without pixels cannot be evaluated")
        self._check_range("prediction", prediction, self._columns, f"the network knows positions 0…{self._columns - 1}")
        if labels.dtype != np.uint8:
            self._check_range(
                "label", labels, len(self._rows), "the class table ends before; was another class list prepared?"
            )
        pairs = pair_counts(labels, prediction, len(self._rows), self._columns)
        found = pairs.any(axis=1)
        unknown = np.flatnonzero(found & (self._rows == self._unknown))
        if len(unknown):
            raise ConfusionError(f"label {unknown[0]} is neither in the class table nor background nor void")
        counts = np.zeros((self._unknown, self._columns), np.int64)
        counts[self._rows[found]] = pairs[found]
        if has_seen_class is None:
            has_seen_class = bool(counts[self._seen_rows].any())
        layer = WITH_SEEN if has_seen_class else WITHOUT_SEEN
        places = np.flatnonzero(counts)
        self._parts.append((layer, places, counts.ravel()[places]))
        self._counts[layer] += counts
        self._images[layer] += 1

    def matrix(self) -> ConfusionMatrix:
        """What has been counted so far."""
        parts = [
            np.stack(np.broadcast_arrays(image, layer, *np.divmod(places, self._columns), pixels), axis=1)
            for image, (layer, places, pixels) in enumerate(self._parts)
        ]
        images = (self._images[0], self._images[1])
        joined = np.concatenate(parts) if parts else np.zeros((0, 5), np.int64)
        return ConfusionMatrix(self.categories, self.classes, self._counts.copy(), images, joined)

    @staticmethod
    def _check_range(what: str, values: np.ndarray, end: int, expected: str) -> None:
        if values.dtype.kind not in "iub":
            raise ConfusionError(f"a {what} map needs integers, not {values.dtype}")
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= end:
            raise ConfusionError(f"{what} {low if low < 0 else high}: {expected}")


def pair_counts(labels: np.ndarray, prediction: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """How often each pair of label and prediction occurs, by one bincount of runs or one histogram of pixels.

    Args:
        labels: (H, W) integers from 0 to ``rows`` - 1.
        prediction: (H, W) integers from 0 to ``columns`` - 1.
        rows, columns: of the answer.

    Returns:
        (rows, columns) int64.
    """
    if has_long_runs(labels, prediction, SHORT_RUN):
        true, predicted, lengths = runs_of_pairs(labels, prediction)
        keys = true.astype(np.int64) * columns + predicted.astype(np.int64)
        return np.bincount(keys, lengths, rows * columns).astype(np.int64).reshape(rows, columns)
    if labels.dtype == np.uint8 and rows <= 256 and columns <= 256 and labels.size < _EXACT:
        maps = [np.ascontiguousarray(labels), np.ascontiguousarray(prediction, np.uint8)]
        return cv2.calcHist(maps, [0, 1], None, [rows, columns], [0, rows, 0, columns]).astype(np.int64)
    keys = np.multiply(labels.ravel(), columns, dtype=np.int64)
    np.add(keys, prediction.ravel(), out=keys, casting="unsafe")
    return np.bincount(keys, minlength=rows * columns).reshape(rows, columns)


def _require_subset(classes: Sequence[int], categories: Sequence[int]) -> None:
    if len(set(classes)) != len(classes):
        raise ConfusionError("a class is learnt twice")
    unknown = sorted(set(classes) - set(categories))
    if unknown:
        raise ConfusionError(f"class {unknown[0]} is not among the {len(categories)} categories of the dataset")
