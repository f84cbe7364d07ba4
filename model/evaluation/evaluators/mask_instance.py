"""Instance segmentation by mask networks: COCO's mask average precision at the original size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from model.data.prepared.dataset import ImageRecord
from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult
from model.evaluation.evaluators.mask_prediction import predict_masks
from model.evaluation.evaluators.pictures import nothing, segment_picture
from model.evaluation.metrics.average_precision import average_precision, detection, precision_scores
from model.networks.mask2former.assembly import Instances

SHOWN_SCORE = 0.5
"""Detections with a lower score are evaluated but not drawn."""


def evaluate(inputs: EvaluationInputs) -> EvaluationResult:
    """Match detections with annotated objects.

    Raises:
        ValueError: if annotations and images do not belong together.
    """
    dataset, split, step = inputs.dataset, inputs.split, inputs.step
    annotations = dataset.instance_annotations(split)["annotations"]
    records = evaluated_images(dataset.records(split), annotations, step.seen, inputs.protocol.images == "seen")
    names, pictures = inputs.shown_names, dict[str, np.ndarray]()
    detections: list[dict[str, Any]] = []
    for seen in predict_masks(inputs, records):
        record = seen.record
        found = inputs.method.instances(seen.logits, seen.masks_at((record.height, record.width)))
        masks = found.masks.cpu().numpy()
        for score, position, mask in zip(found.scores.tolist(), found.classes.tolist(), masks, strict=True):
            detections.append(detection(record.id, step.seen[position], score, mask))
        if record.id in names:
            own = [one for one in annotations if str(one["image_id"]) == record.id]
            truth, true_categories = painted_annotations(own, (record.height, record.width))
            prediction, positions = painted_instances(found)
            pictures |= segment_picture(
                record.id, seen.image, truth, true_categories, prediction, positions, nothing(dataset)
            )
    images = [{"id": record.id, "height": record.height, "width": record.width} for record in records]
    evaluated = {record.id for record in records}
    true = [one for one in annotations if str(one["image_id"]) in evaluated]
    result = average_precision(images, true, detections, step.seen)
    scores = precision_scores(result, {"all": step.seen})
    headline = f"AP {scores.groups.get('all', {}).get('AP', float('nan')):.1f} %"
    return EvaluationResult("precision", result, scores.classes, len(records), pictures, headline)


def evaluated_images(
    records: Sequence[ImageRecord], annotations: Sequence[Mapping[str, Any]], seen: Sequence[int], seen_only: bool
) -> list[ImageRecord]:
    """Images to evaluate: all, or those with an object of a class learnt so far."""
    if not seen_only:
        return list(records)
    known = set(seen)
    showing = {str(one["image_id"]) for one in annotations if one["category_id"] in known}
    return [record for record in records if record.id in showing]


def painted_annotations(
    annotations: Sequence[Mapping[str, Any]], size: tuple[int, int]
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """True objects painted into one map, later ones over earlier ones, and their (number, category id)."""
    ids = np.zeros(size, dtype=np.int32)
    for number, one in enumerate(annotations, start=1):
        ids[coco_mask.decode(one["segmentation"]) > 0] = number
    return ids, [(number, int(one["category_id"])) for number, one in enumerate(annotations, start=1)]


def painted_instances(found: Instances) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Confident detections painted into one map, the best on top, and their (number, position from 1)."""
    kept = int((found.scores >= SHOWN_SCORE).sum())
    ids = np.zeros(tuple(found.masks.shape[1:]), dtype=np.int32)
    for number in range(kept, 0, -1):
        ids[found.masks[number - 1].cpu().numpy()] = number
    return ids, [(number, int(found.classes[number - 1]) + 1) for number in range(1, kept + 1)]
