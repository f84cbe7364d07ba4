"""How true and predicted segments overlap, image by image: all that panoptic quality needs from the pixels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.common.array_files import ArrayFileError, read_arrays
from model.common.files import atomic_file
from model.evaluation.metrics.runs import runs_of_pairs

VOID = 0
"""Id of pixels without a segment, in true and predicted maps."""

_TRUTH = np.dtype([("image", np.int64), ("category", np.int64), ("crowd", np.bool_), ("area", np.int64)])
_PREDICTION = np.dtype([("image", np.int64), ("category", np.int64), ("area", np.int64)])
_OVERLAP = np.dtype([("truth", np.int64), ("prediction", np.int64), ("pixels", np.int64)])


class OverlapError(ValueError):
    """Segment maps that do not fit their segment lists, or a file that holds no overlaps."""


@dataclass(frozen=True)
class Segment:
    """One segment of an image.

    Attributes:
        id: its value in the map, not 0.
        category: the dataset's category id.
        crowd: a group of objects that were not annotated separately; only true segments can be one.
        area: in pixels; None: counted in the map. The areas of an annotation file may be larger where segments were
            painted over each other, and published numbers use them.
    """

    id: int
    category: int
    crowd: bool = False
    area: int | None = None


@dataclass(frozen=True)
class PanopticOverlaps:
    """Segments of many images, and the pixels each pair shares.

    Attributes:
        truth: structured array ``image, category, crowd, area``, one row per true segment.
        prediction: structured array ``image, category, area``, one row per predicted segment.
        overlap: structured array ``truth, prediction, pixels``: rows of the two above, truth = -1 on void.
        images: number of images; ``image`` runs from 0 to images-1.
    """

    truth: np.ndarray
    prediction: np.ndarray
    overlap: np.ndarray
    images: int

    def save(self, path: Path) -> None:
        """Write one npz file; equal overlaps give equal bytes."""
        with atomic_file(path) as stream:
            np.savez_compressed(
                stream, truth=self.truth, prediction=self.prediction, overlap=self.overlap, images=np.int64(self.images)
            )

    @classmethod
    def load(cls, path: Path) -> PanopticOverlaps:
        """Read what :meth:`save` wrote.

        Raises:
            OverlapError: if the file holds something else.
            FileNotFoundError: if there is no such file.
        """
        try:
            stored = read_arrays(path, ("truth", "prediction", "overlap", "images"))
            images = int(stored["images"])
        except (ArrayFileError, TypeError) as error:
            raise OverlapError(f"{path} holds no panoptic overlaps ({error}); delete it to evaluate again") from error
        truth, prediction, overlap = stored["truth"], stored["prediction"], stored["overlap"]
        if [truth.dtype, prediction.dtype, overlap.dtype] != [_TRUTH, _PREDICTION, _OVERLAP]:
            raise OverlapError(f"{path} was written in another format; delete it to evaluate again")
        return cls(truth, prediction, overlap, images)


class PanopticAccumulator:
    """Collects the overlaps of image after image."""

    def __init__(self) -> None:
        self._truth: list[np.ndarray] = []
        self._prediction: list[np.ndarray] = []
        self._overlap: list[np.ndarray] = []
        self._sizes = [0, 0]
        self._images = 0

    def add(
        self, truth: Any, truth_segments: Iterable[Segment], prediction: Any, predicted_segments: Iterable[Segment]
    ) -> None:
        """Add one image.

        Args:
            truth: (H, W) true segment ids, 0 = void.
            truth_segments: every id in ``truth``; a segment without a pixel cannot be found and counts as missed.
            prediction: (H, W) predicted segment ids, 0 = nothing.
            predicted_segments: exactly the ids in ``prediction``.

        Raises:
            OverlapError: for different shapes, an id without a segment or repeated, or a predicted segment without pixels.
        """
        truth, prediction = np.asarray(truth), np.asarray(prediction)
        if truth.shape != prediction.shape:
            raise OverlapError(f"true segments are {truth.shape} and predicted ones {prediction.shape}")
        true, predicted = _by_id(truth_segments, "true"), _by_id(predicted_segments, "predicted")
        true_ids, predicted_ids, pixels = shared_pixels(truth, prediction)
        i = _rows(true_ids, list(true), "true")
        j = _rows(predicted_ids, list(predicted), "predicted")
        true_area = np.bincount(i[i >= 0], pixels[i >= 0], len(true)).astype(np.int64)
        predicted_area = np.bincount(j[j >= 0], pixels[j >= 0], len(predicted)).astype(np.int64)
        if len(predicted) and not predicted_area.all():
            empty = list(predicted)[int(np.argmin(predicted_area))]
            raise OverlapError(f"predicted segment {empty} has no pixel in the map")

        rows = [
            (self._images, s.category, s.crowd, area if s.area is None else s.area)
            for s, area in zip(true.values(), true_area.tolist(), strict=True)
        ]
        self._truth.append(np.array(rows, _TRUTH))
        found = [
            (self._images, s.category, area)
            for s, area in zip(predicted.values(), predicted_area.tolist(), strict=True)
        ]
        self._prediction.append(np.array(found, _PREDICTION))
        kept = j >= 0
        overlap = np.empty(int(kept.sum()), _OVERLAP)
        overlap["truth"] = np.where(i[kept] >= 0, i[kept] + self._sizes[0], -1)
        overlap["prediction"] = j[kept] + self._sizes[1]
        overlap["pixels"] = pixels[kept]
        self._overlap.append(overlap)
        self._sizes[0] += len(true)
        self._sizes[1] += len(predicted)
        self._images += 1

    def overlaps(self) -> PanopticOverlaps:
        """What has been collected so far."""
        return PanopticOverlaps(
            np.concatenate([np.empty(0, _TRUTH), *self._truth]),
            np.concatenate([np.empty(0, _PREDICTION), *self._prediction]),
            np.concatenate([np.empty(0, _OVERLAP), *self._overlap]),
            self._images,
        )


def shared_pixels(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of ids that occur at the same pixels of two maps, and how many pixels they share.

    Segments consist of many pixels, so the maps are first split into runs along the rows: sorting a few thousand runs
    replaces sorting a few hundred thousand pixels, whatever the ids are (COCO's go up to 2²⁴).

    Args:
        first, second: (H, W) ids, 0 ≤ id < 2³².

    Returns:
        Ids of the first map, ids of the second, pixels; sorted by the first id, then by the second.
    """
    if not np.size(first):
        empty = np.empty(0, np.int64)
        return empty, empty, empty
    a, b, lengths = runs_of_pairs(first, second)
    keys = a.astype(np.int64) << 32 | b.astype(np.int64)
    pairs, inverse = np.unique(keys, return_inverse=True)
    pixels = np.bincount(inverse, lengths).astype(np.int64)
    return pairs >> 32, pairs & 0xFFFFFFFF, pixels


def _by_id(segments: Iterable[Segment], what: str) -> dict[int, Segment]:
    found: dict[int, Segment] = {}
    for segment in segments:
        if segment.id == VOID or segment.id in found:
            raise OverlapError(f"{what} segment {segment.id}: ids must differ from each other and from {VOID} (void)")
        found[segment.id] = segment
    return found


def _rows(ids: np.ndarray, known: Sequence[int], what: str) -> np.ndarray:
    """Row of every id in ``known``, -1 for void."""
    row_of = {identity: row for row, identity in enumerate(known)}
    row_of[VOID] = -1
    try:
        return np.array([row_of[identity] for identity in ids.tolist()], np.int64)
    except KeyError as error:
        raise OverlapError(
            f"the map holds {what} segment {error.args[0]}, which is not in the list of segments; "
            "do the map and the list belong to the same image?"
        ) from None
