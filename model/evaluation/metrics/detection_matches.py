"""Which detection found an object, image by image: average precision as if each image had been evaluated so many times.

pycocotools matches the detections of an image with its objects whatever other images there are. What depends on all of them is
the order of the detections by score, from which precision and recall follow:

    precision_n = TP_n / (TP_n + FP_n)        recall_n = TP_n / objects

after the n most confident detections; AP is the mean over thresholds of the interpolated precision at 101 recalls. An image that
is drawn w times counts w times in every sum. Repeating it would add points between those of the curve, but none above it.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.common.array_files import ArrayFileError, read_arrays

ARRAYS = ("objects", "image", "place", "score", "matched", "ignored")
_RECALLS = np.linspace(0.0, 1.0, 101)


class MatchesError(ValueError):
    """A file that does not tell which detections were matched."""


@dataclass(frozen=True)
class DetectionMatches:
    """The detections of all images, by class and score, and how many objects there are.

    Attributes:
        objects: (images, K) int64, objects to find by image and class.
        image: (D,) int64, image of each detection.
        place: (D,) int64, index of its class.
        score: (D,) float64, its confidence; descending within a class.
        matched: (D, T) bool, whether it found an object at each IoU threshold.
        ignored: (D, T) bool, whether it counts neither as right nor as wrong, such as one on a crowd.
    """

    objects: np.ndarray
    image: np.ndarray
    place: np.ndarray
    score: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.objects)

    @property
    def arrays(self) -> dict[str, Any]:
        """The fields by name, to be stored."""
        return {name: getattr(self, name) for name in ARRAYS}

    @classmethod
    def load(cls, path: Path) -> DetectionMatches:
        """Read what an evaluation stored.

        Raises:
            MatchesError: if the file is damaged, or was written before matches were stored.
            FileNotFoundError: if there is no such file.
        """
        try:
            stored = read_arrays(path, ARRAYS)
        except ArrayFileError as error:
            raise MatchesError(f"{path} does not tell images apart ({error}); delete it to evaluate again") from error
        return cls(*(stored[name] for name in ARRAYS))

    def class_precision(self, times: np.ndarray) -> np.ndarray:
        """Average precision of every class as a fraction, NaN for a class without an object to find.

        Args:
            times: (images,) integers from 0.

        Returns:
            (K,) float64.
        """
        wanted = times @ self.objects
        found = np.full(len(wanted), np.nan)
        starts = np.searchsorted(self.place, np.arange(len(wanted) + 1))
        for index in np.flatnonzero(wanted):
            part = slice(starts[index], starts[index + 1])
            found[index] = self._precision(part, times, int(wanted[index]))
        return found

    def _precision(self, part: slice, times: np.ndarray, objects: int) -> float:
        weight = np.where(self.ignored[part], 0, times[self.image[part]][:, None])  # D, T
        right = np.cumsum(weight * self.matched[part], axis=0)
        counted = np.cumsum(weight, axis=0)
        precision = np.divide(right, counted, out=np.zeros(right.shape), where=counted > 0)
        best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        recall = right / objects
        total = 0.0
        for threshold in range(recall.shape[1]):
            places = np.searchsorted(recall[:, threshold], _RECALLS, side="left")
            total += best[places[places < len(best)], threshold].sum()
        return total / (len(_RECALLS) * recall.shape[1])


def detection_matches(evaluation: Any, classes: list[int]) -> DetectionMatches:
    """What pycocotools matched, for objects of every size.

    Args:
        evaluation: a ``COCOeval`` after ``evaluate()``.
        classes: category ids in learning order.
    """
    parameters = evaluation.params
    images, areas, thresholds = len(parameters.imgIds), len(parameters.areaRng), len(parameters.iouThrs)
    objects = np.zeros((images, len(classes)), np.int64)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in ARRAYS[1:]}
    for place, category in enumerate(classes):
        first = parameters.catIds.index(category) * areas * images  # the first range of areas is "all"
        found = [
            (image, one) for image, one in enumerate(evaluation.evalImgs[first : first + images]) if one is not None
        ]
        for number, one in found:
            objects[number, place] = np.count_nonzero(np.asarray(one["gtIgnore"]) == 0)
        image = np.concatenate(
            [np.full(len(one["dtScores"]), i, np.int64) for i, one in found] or [np.empty(0, np.int64)]
        )
        score = np.concatenate([np.asarray(one["dtScores"], np.float64) for _, one in found] or [np.empty(0)])
        none = np.empty((thresholds, 0), bool)
        matched = np.concatenate([none, *(np.asarray(one["dtMatches"]) > 0 for _, one in found)], axis=1)
        ignored = np.concatenate([none, *(np.asarray(one["dtIgnore"], bool) for _, one in found)], axis=1)
        order = np.argsort(-score, kind="mergesort")  # as pycocotools does: equal scores in the order of images
        columns["image"].append(image[order])
        columns["place"].append(np.full(len(order), place, np.int64))
        columns["score"].append(score[order])
        columns["matched"].append(matched.T[order])
        columns["ignored"].append(ignored.T[order])
    return DetectionMatches(objects, *(np.concatenate(columns[name]) for name in ARRAYS[1:]))
