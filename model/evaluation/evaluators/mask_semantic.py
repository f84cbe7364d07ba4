"""Semantic segmentation by mask networks."""

from __future__ import annotations

import cv2
import numpy as np

from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult
from model.evaluation.evaluators.mask_prediction import Size, predict_masks, seen_size
from model.evaluation.evaluators.pictures import pixel_picture
from model.evaluation.metrics.confusion import ConfusionAccumulator
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.protocols import Geometry


def evaluate(inputs: EvaluationInputs) -> EvaluationResult:
    """Count (label, prediction) pairs; class scores are resized to the size that the protocol names.

    Raises:
        ValueError: for a protocol that crops the image to a square.
    """
    dataset, step, protocol = inputs.dataset, inputs.step, inputs.protocol
    counts = ConfusionAccumulator(dataset.category_ids, step.seen, dataset.background_id, dataset.void_id)
    names, pictures = inputs.shown_names, dict[str, np.ndarray]()
    for seen in predict_masks(inputs, dataset.records(inputs.split)):
        record = seen.record
        size = compared_size((record.height, record.width), protocol.geometry)
        labels = dataset.read_semantic(inputs.split, record)
        has_seen = bool(np.isin(np.unique(labels), step.seen).any())
        if labels.shape != size:
            labels = cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
        prediction = inputs.method.semantic(seen.logits, seen.masks_at(seen.inside), size, len(step.seen)).cpu().numpy()
        counts.add(labels, prediction, has_seen)
        if record.id in names:
            image = seen.image if seen.image.shape[:2] == size else cv2.resize(seen.image, size[::-1])
            pictures |= pixel_picture(record.id, image, labels, prediction)
    matrix = counts.matrix()
    scores = semantic_scores(matrix, {"all": step.seen}, protocol, dataset.background_is_labelled)
    headline = f"mIoU {scores.groups.get('all', {}).get('mIoU', float('nan')):.1f} %"
    return EvaluationResult("confusion", matrix, scores.classes, sum(matrix.images), pictures, headline)


def compared_size(size: Size, geometry: Geometry) -> Size:
    """(height, width) at which an image of this size is evaluated.

    Raises:
        ValueError: if the protocol crops the image to a square.
    """
    if geometry.kind == "full":
        return size
    if geometry.kind == "resize" and geometry.size is not None:
        return seen_size(size, geometry.size)
    raise ValueError(f"the geometry '{geometry.kind}' is not defined for mask networks; use another protocol")
