"""COCO mask average precision, per class and per class group: a thin layer over pycocotools.

AP is the mean of the interpolated precision over the IoU thresholds 0.50, 0.55, …, 0.95 and 101 recalls, with at most 100
detections per image; AP50 and AP75 are its values at a single threshold. Precision is defined per class, so classes not
learnt yet are simply left out.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from model.common.files import atomic_file
from model.evaluation.metrics.detection_matches import DetectionMatches, detection_matches
from model.evaluation.metrics.scores import Scores, positions_of

METRICS = ("AP", "AP50", "AP75")


class DetectionError(ValueError):
    """Detections or annotations that do not belong to the evaluated images or classes."""


@dataclass(frozen=True)
class AveragePrecision:
    """Result of one evaluation, as fractions.

    Attributes:
        classes: category ids, in the requested order.
        precision: (10, 101, K) interpolated precision by IoU threshold, recall and class; NaN for classes without
            ground truth.
        summary: (12,) the summary of pycocotools: AP, AP50, AP75, AP small/medium/large, AR with 1/10/100 detections,
            AR small/medium/large; -1 = undefined.
        matches: of the detections of each image.
    """

    classes: tuple[int, ...]
    precision: np.ndarray
    summary: np.ndarray
    matches: DetectionMatches

    def save(self, path: Path) -> None:
        """Write one npz file; equal results give equal bytes."""
        with atomic_file(path) as stream:
            np.savez_compressed(
                stream,
                classes=np.asarray(self.classes, np.int64),
                precision=self.precision.astype(np.float32),
                summary=self.summary,
                **self.matches.arrays,
            )

    def per_class(self) -> dict[str, np.ndarray]:
        """AP, AP50 and AP75 of every class; NaN for classes without ground truth."""
        return {
            "AP": self.precision.mean(axis=(0, 1)),
            "AP50": self.precision[0].mean(axis=0),
            "AP75": self.precision[5].mean(axis=0),
        }


def detection(image: Any, category: int, score: float, mask: np.ndarray) -> dict[str, Any]:
    """One detected object in COCO's result format.

    Args:
        image: image id.
        category: the dataset's category id.
        score: confidence.
        mask: (H, W) bool.
    """
    return {"image_id": image, "category_id": int(category), "score": float(score), "segmentation": _encode(mask)}


def average_precision(
    images: Sequence[Mapping[str, Any]],
    annotations: Sequence[Mapping[str, Any]],
    detections: Sequence[Mapping[str, Any]],
    classes: Sequence[int],
) -> AveragePrecision:
    """Match detections with annotations.

    Args:
        images: ``{"id", "height", "width"}`` of every evaluated image.
        annotations: true objects in COCO's format; those of other classes are left out.
        detections: detected objects in COCO's result format.
        classes: category ids that the network knows.

    Raises:
        DetectionError: for a detection of an unknown image or class, or an annotation of an unknown image.
    """
    known, wanted = {image["id"] for image in images}, set(classes)
    for what, objects in (("annotation", annotations), ("detection", detections)):
        strangers = [o["image_id"] for o in objects if o["image_id"] not in known]
        if strangers:
            raise DetectionError(
                f"image {strangers[0]} has at least one {what} but is not among the {len(known)} evaluated images"
            )
    unlearnt = [d["category_id"] for d in detections if d["category_id"] not in wanted]
    if unlearnt:
        raise DetectionError(
            f"a detection has class {unlearnt[0]}, which is not among the {len(wanted)} learnt classes"
        )
    seen = [a for a in annotations if a["category_id"] in wanted]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress with print
        truth = _coco(images, seen, wanted)
        found = _coco(
            images, [{**d, "area": float(rle.area(d["segmentation"])), "iscrowd": 0} for d in detections], wanted
        )
        evaluation = COCOeval(truth, found, "segm")
        evaluation.params.catIds = sorted(wanted)
        evaluation.params.imgIds = sorted(known)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    place = {category: index for index, category in enumerate(evaluation.params.catIds)}
    precision = evaluation.eval["precision"][:, :, [place[c] for c in classes], 0, -1]
    matches = detection_matches(evaluation, list(classes))
    return AveragePrecision(
        tuple(classes), np.where(precision < 0, np.nan, precision), np.asarray(evaluation.stats), matches
    )


def precision_scores(result: AveragePrecision, groups: Mapping[str, Sequence[int]]) -> Scores:
    """AP, AP50 and AP75 per group and per class, in percent; a group averages over its classes with ground truth.

    Raises:
        ScoreError: for a group with a class that was not learnt.
    """
    values = result.per_class()
    scores: dict[str, dict[str, float]] = {}
    for name, members in positions_of(groups, result.classes).items():
        means = {metric: values[metric][members] for metric in METRICS}
        found = {metric: float(100 * np.nanmean(v)) for metric, v in means.items() if not np.isnan(v).all()}
        if found:
            scores[name] = found
    per_class = {
        metric: {
            str(category): None if np.isnan(value) else float(100 * value)
            for category, value in zip(result.classes, values[metric], strict=True)
        }
        for metric in METRICS
    }
    return Scores(scores, per_class)


def _encode(mask: np.ndarray) -> dict[str, Any]:
    encoded: dict[str, Any] = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": list(encoded["size"]), "counts": encoded["counts"].decode("ascii")}


def _coco(images: Sequence[Mapping[str, Any]], objects: Sequence[Mapping[str, Any]], classes: set[int]) -> COCO:
    coco = COCO()
    coco.dataset = {
        "images": [dict(image) for image in images],
        "annotations": [{**o, "id": number} for number, o in enumerate(objects, start=1)],
        "categories": [{"id": category} for category in sorted(classes)],
    }
    coco.createIndex()
    return coco
