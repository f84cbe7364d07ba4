"""Semantic segmentation by networks that label every pixel."""

from __future__ import annotations

import numpy as np

from model.evaluation.confusion import ConfusionAccumulator
from model.evaluation.mean_iou import semantic_scores
from model.inference import predict_pixels
from model.judges.base import Assignment, Verdict
from model.judges.pictures import pixel_picture


def judge(assignment: Assignment) -> Verdict:
    """Count (label, prediction) pairs at the size that the protocol names.

    Raises:
        ValueError: for a geometry that is not defined for label maps.
    """
    dataset, step, protocol = assignment.dataset, assignment.step, assignment.protocol
    counts = ConfusionAccumulator(dataset.category_ids, step.seen, dataset.background_id, dataset.void_id)
    names, pictures = assignment.shown_names, dict[str, np.ndarray]()
    for judged in predict_pixels(
        assignment.network,
        assignment.method,
        step,
        dataset,
        assignment.split,
        geometry=protocol.geometry,
        size=assignment.size,
        batch_size=assignment.batch_size,
        device=assignment.device,
        workers=assignment.workers,
    ):
        counts.add(judged.labels, judged.prediction, judged.has_seen_class)
        if judged.name in names:
            pictures |= pixel_picture(judged.name, judged.image, judged.labels, judged.prediction)
    matrix = counts.matrix()
    scores = semantic_scores(matrix, {"all": step.seen}, protocol, dataset.background_is_labelled)
    headline = f"mIoU {scores.groups.get('all', {}).get('mIoU', float('nan')):.1f} %"
    return Verdict("confusion", matrix, scores.classes, sum(matrix.images), pictures, headline)
