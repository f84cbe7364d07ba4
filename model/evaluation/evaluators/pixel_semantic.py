"""Semantic segmentation by per-pixel networks."""

from __future__ import annotations

import numpy as np

from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult
from model.evaluation.evaluators.pictures import pixel_picture
from model.evaluation.evaluators.pixel_prediction import predict_pixels
from model.evaluation.metrics.confusion import ConfusionAccumulator
from model.evaluation.metrics.mean_iou import semantic_scores


def evaluate(inputs: EvaluationInputs) -> EvaluationResult:
    """Count (label, prediction) pairs at the size that the protocol names.

    Raises:
        ValueError: for a geometry that is not defined for label maps.
    """
    dataset, step, protocol = inputs.dataset, inputs.step, inputs.protocol
    counts = ConfusionAccumulator(dataset.category_ids, step.seen, dataset.background_id, dataset.void_id)
    names, pictures = inputs.shown_names, dict[str, np.ndarray]()
    for image in predict_pixels(
        inputs.network,
        inputs.method,
        step,
        dataset,
        inputs.split,
        geometry=protocol.geometry,
        size=inputs.size,
        batch_size=inputs.batch_size,
        device=inputs.device,
        workers=inputs.workers,
    ):
        counts.add(image.labels, image.prediction, image.has_seen_class)
        if image.name in names:
            pictures |= pixel_picture(image.name, image.image, image.labels, image.prediction)
    matrix = counts.matrix()
    scores = semantic_scores(matrix, {"all": step.seen}, protocol, dataset.background_is_labelled)
    headline = f"mIoU {scores.groups.get('all', {}).get('mIoU', float('nan')):.1f} %"
    return EvaluationResult("confusion", matrix, scores.classes, sum(matrix.images), pictures, headline)
