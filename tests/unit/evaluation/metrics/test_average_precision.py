"""Mask average precision per class and group."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.metrics.average_precision import (
    DetectionError,
    average_precision,
    detection,
    precision_scores,
)
from model.evaluation.metrics.scores import ScoreError

IMAGES = [{"id": "one", "height": 20, "width": 20}, {"id": "two", "height": 20, "width": 20}]


def box(top: int, left: int, size: int = 8) -> np.ndarray:
    mask = np.zeros((20, 20), bool)
    mask[top : top + size, left : left + size] = True
    return mask


def annotation(image: str, category: int, mask: np.ndarray) -> dict[str, object]:
    """A true object in COCO's annotation format."""
    return {**detection(image, category, 1.0, mask), "iscrowd": 0, "area": float(mask.sum())}


TRUE = [annotation("one", 7, box(0, 0)), annotation("two", 7, box(4, 4)), annotation("one", 3, box(10, 10))]


def test_perfect_detections(capsys: pytest.CaptureFixture[str]) -> None:
    found = [
        detection(t["image_id"], t["category_id"], 0.9, m)
        for t, m in zip(TRUE, (box(0, 0), box(4, 4), box(10, 10)), strict=True)
    ]
    result = average_precision(IMAGES, TRUE, found, [7, 3])
    scores = precision_scores(result, {"old": [7], "new": [3], "past": [7], "current": [3], "all": [7, 3]})
    assert scores.classes["AP"] == pytest.approx({"7": 100, "3": 100})
    assert all(values["AP"] == pytest.approx(100) for values in scores.groups.values())
    assert capsys.readouterr().out == ""


def test_order_of_classes_is_kept() -> None:
    found = [detection("one", 3, 0.9, box(10, 10))]
    scores = precision_scores(average_precision(IMAGES, TRUE, found, [7, 3]), {"all": [7, 3]})
    assert scores.classes["AP"] == pytest.approx({"7": 0, "3": 100})
    assert scores.groups["all"] == pytest.approx({"AP": 50, "AP50": 50, "AP75": 50})


def test_a_shifted_mask_counts_at_low_thresholds_only() -> None:
    # 8x8 boxes shifted by one pixel: IoU 56 / 72 = 0.78, right at six of ten thresholds
    found = [detection("one", 3, 0.9, box(10, 11))]
    values = average_precision(IMAGES, TRUE, found, [3]).per_class()
    assert {metric: v[0] for metric, v in values.items()} == pytest.approx({"AP": 0.6, "AP50": 1, "AP75": 1})


def test_classes_not_learnt_yet_take_no_part() -> None:
    found = [detection("one", 3, 0.9, box(10, 10))]
    with_others = average_precision(IMAGES, TRUE, found, [3])
    alone = average_precision(IMAGES, [TRUE[2]], found, [3])
    np.testing.assert_array_equal(with_others.precision, alone.precision)


def test_nothing_detected_and_nothing_to_detect() -> None:
    scores = precision_scores(average_precision(IMAGES, TRUE, [], [7, 5]), {"old": [7], "new": [5], "all": [7, 5]})
    assert scores.classes["AP"] == {"7": 0.0, "5": None}
    assert scores.groups == {"old": {"AP": 0, "AP50": 0, "AP75": 0}, "all": {"AP": 0, "AP50": 0, "AP75": 0}}


def test_strangers_are_named() -> None:
    with pytest.raises(DetectionError, match="image three has at least one detection"):
        average_precision(IMAGES, TRUE, [detection("three", 7, 1, box(0, 0))], [7])
    with pytest.raises(DetectionError, match="class 3, which is not among the 1 learnt"):
        average_precision(IMAGES, TRUE, [detection("one", 3, 1, box(0, 0))], [7])
    with pytest.raises(DetectionError, match="image one has at least one annotation"):
        average_precision(IMAGES[1:], TRUE, [], [7])
    with pytest.raises(ScoreError):
        precision_scores(average_precision(IMAGES, TRUE, [], [7]), {"all": [3]})
