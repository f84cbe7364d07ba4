"""Panoptic segmentation by mask networks, compared at the original size under every protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult
from model.evaluation.evaluators.mask_prediction import predict_masks
from model.evaluation.evaluators.pictures import nothing, segment_picture
from model.evaluation.metrics.overlaps import PanopticAccumulator, Segment
from model.evaluation.metrics.panoptic_quality import panoptic_scores


def evaluate(inputs: EvaluationInputs) -> EvaluationResult:
    """Collect the overlaps of true and predicted segments.

    Raises:
        ValueError: if maps and annotation do not belong together.
    """
    dataset, split, step = inputs.dataset, inputs.split, inputs.step
    annotated = {
        str(annotation["image_id"]): annotation["segments_info"]
        for annotation in dataset.panoptic_annotations(split)["annotations"]
    }
    counts, things = PanopticAccumulator(), inputs.things()
    names, pictures = inputs.shown_names, dict[str, np.ndarray]()
    for seen in predict_masks(inputs, dataset.records(split)):
        record = seen.record
        truth = dataset.read_panoptic(split, record)
        listed = true_segments(annotated.get(record.id, ()), truth, inputs.protocol.segment_areas == "annotation")
        masks = seen.masks_at((record.height, record.width))
        ids, found = inputs.method.panoptic(seen.logits, masks, things)
        prediction = ids.cpu().numpy()
        counts.add(truth, listed, prediction, [Segment(one.id, step.seen[one.category]) for one in found])
        if record.id in names:
            true_categories = [(one.id, one.category) for one in listed]
            positions = [(one.id, one.category + 1) for one in found]
            pictures |= segment_picture(
                record.id, seen.image, truth, true_categories, prediction, positions, nothing(dataset)
            )
    overlaps = counts.overlaps()
    countable = [category.id for category in dataset.categories if category.isthing]
    scores = panoptic_scores(overlaps, step.seen, countable, {"all": step.seen}, inputs.protocol)
    means = scores.groups.get("all", {})
    shown = [
        f"{name.replace('_', ' ')} {means[name]:.1f} %" for name in ("PQ", "PQ_things", "PQ_stuff") if name in means
    ]
    return EvaluationResult("panoptic", overlaps, scores.classes, overlaps.images, pictures, ", ".join(shown))


def true_segments(listed: Sequence[Mapping[str, Any]], truth: np.ndarray, annotated_areas: bool) -> list[Segment]:
    """The true segments of an image.

    Args:
        listed: ``segments_info`` of the annotation.
        truth: (H, W) segment ids.
        annotated_areas: take the areas from the annotation, which may have counted a segment before others were
            painted over it. Otherwise they are counted in the map, and segments without a pixel do not exist.
    """
    drawn = set(np.unique(truth).tolist())
    return [
        Segment(
            int(one["id"]),
            int(one["category_id"]),
            bool(one.get("iscrowd", 0)),
            int(one["area"]) if annotated_areas else None,
        )
        for one in listed
        if annotated_areas or one["id"] in drawn
    ]
