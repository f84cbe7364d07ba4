"""Readings of one raw matrix: which pixels count, which classes a mean divides by."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.metrics.confusion import ConfusionAccumulator, ConfusionMatrix
from model.evaluation.metrics.mean_iou import (
    class_accuracy,
    class_iou,
    evaluated_pixels,
    harmonic_mean,
    mean_over,
    pixel_accuracy,
    semantic_scores,
)
from model.evaluation.metrics.scores import BACKGROUND, ScoreError
from model.evaluation.protocols import PROTOCOLS, BackgroundPolicy, ProtocolError, get, known

CATEGORIES, CLASSES = (1, 2, 3, 4), (2, 1, 3)  # 4 is learnt later
GROUPS = {"old": (2, 1), "new": (3,), "past": (2, 1), "current": (3,), "all": (2, 1, 3)}


@pytest.fixture
def matrix() -> ConfusionMatrix:
    counting = ConfusionAccumulator(CATEGORIES, CLASSES, background_id=0, void_id=255)
    labels = np.array([[2, 2, 2, 2], [1, 1, 0, 0], [4, 4, 255, 3]])
    predicted = np.array([[1, 1, 1, 2], [2, 2, 0, 1], [0, 3, 1, 3]])
    counting.add(labels, predicted)
    counting.add(np.array([[4, 0]]), np.array([[3, 3]]))  # no class learnt so far
    return counting.matrix()


def test_iou_by_hand() -> None:
    square = np.array([[3, 1], [2, 0]])
    np.testing.assert_allclose(class_iou(square), [3 / 6, 0])
    np.testing.assert_allclose(class_accuracy(square), [3 / 4, 0])
    assert pixel_accuracy(square) == 3 / 6
    assert pixel_accuracy(square, [1]) == 0
    assert pixel_accuracy(np.zeros((2, 2), int)) is None


def test_absent_classes_have_no_iou() -> None:
    assert np.isnan(class_iou(np.diag([2, 0]))[1])


@pytest.mark.parametrize(
    ("future", "background", "row"),
    [
        ("ignore", "ignore", [0, 0, 0, 0]),
        ("ignore", "count", [1, 1, 0, 1]),
        ("background", "ignore", [1, 0, 0, 2]),
        ("background", "count", [2, 1, 0, 3]),
    ],
)
def test_what_becomes_background(matrix: ConfusionMatrix, future: str, background: str, row: list[int]) -> None:
    square = evaluated_pixels(matrix, BackgroundPolicy(future, background))
    assert square[0].tolist() == row
    assert square[1:].tolist() == [[0, 3, 1, 0], [0, 0, 2, 0], [0, 0, 0, 1]]


def test_only_images_with_a_seen_class(matrix: ConfusionMatrix) -> None:
    square = evaluated_pixels(matrix, BackgroundPolicy("background", "count"), seen_images_only=True)
    assert square[0].tolist() == [2, 1, 0, 1]


@pytest.mark.parametrize(
    ("rule", "mean"), [("ground truth", 0.5), ("ground truth or prediction", 1 / 3), ("every class", 0.25)]
)
def test_which_classes_a_mean_divides_by(rule: str, mean: float) -> None:
    square = np.array([[2, 0, 2, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    values = np.array([1.0, 0.0, 0.0, np.nan])
    assert mean_over(values, square, range(4), rule) == mean
    assert mean_over(values, square, [3], "ground truth") is None


def test_unknown_rule() -> None:
    with pytest.raises(ValueError, match="not a rule"):
        mean_over(np.zeros(1), np.zeros((1, 1)), [0], "median")


def test_scores_by_hand(matrix: ConfusionMatrix) -> None:
    scores = semantic_scores(matrix, GROUPS, get("segue"), background_is_labelled=True)
    # Future class 4 is ignored; background pixels count as false positives: 2: 3/(4+1), 1: 2/(2+1), 3: 1/(1+1).
    iou = {"2": 60.0, "1": 100 * 2 / 3, "3": 50.0}
    assert {k: v for k, v in scores.classes["IoU"].items() if k != BACKGROUND} == pytest.approx(iou)
    assert scores.groups["old"]["mIoU"] == pytest.approx((60 + 200 / 3) / 2)
    assert scores.groups["all"]["mIoU"] == pytest.approx((60 + 200 / 3 + 50) / 3)
    assert scores.groups["all"]["hIoU"] == pytest.approx(harmonic_mean((60 + 200 / 3) / 2, 50))
    assert scores.groups["old"]["pixel_accuracy"] == pytest.approx(100 * 5 / 6)
    assert scores.groups["old"]["mAcc"] == pytest.approx(100 * (3 / 4 + 1) / 2)


def test_unlabelled_pixels_are_not_judged_by_segue(matrix: ConfusionMatrix) -> None:
    scores = semantic_scores(matrix, GROUPS, get("segue"), background_is_labelled=False)
    assert scores.classes["IoU"] == pytest.approx({"2": 75.0, "1": 200 / 3, "3": 100.0})


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        ("plop", 100 * 2 / 4),  # the first image only, class 4 is background: row 0 is [2, 1, 0, 1]
        ("sdr", 100 * 1 / 2),  # the first image only, class 4 is not evaluated: row 0 is [1, 1, 0, 0]
        ("ssul-barm", 100 * 1 / 3),  # both images, class 4 is not evaluated: row 0 is [1, 1, 0, 1]
    ],
)
def test_background_belongs_to_the_base_step(matrix: ConfusionMatrix, protocol: str, expected: float) -> None:
    scores = semantic_scores(matrix, GROUPS, get(protocol), background_is_labelled=True)
    background = scores.classes["IoU"][BACKGROUND]
    assert background == pytest.approx(expected, abs=1e-4)
    values = [scores.classes["IoU"][key] for key in ("2", "1", "3")]
    for group in ("old", "past"):
        assert scores.groups[group]["mIoU"] == pytest.approx(np.mean([background, *values[:2]]))
    for group in ("new", "current"):
        assert scores.groups[group]["mIoU"] == pytest.approx(values[2])
    assert scores.groups["all"]["mIoU"] == pytest.approx(np.mean([background, *values]))


def test_comformer_counts_the_background_in_all_only(matrix: ConfusionMatrix) -> None:
    scores = semantic_scores(matrix, GROUPS, get("comformer"), background_is_labelled=False)
    values = scores.classes["IoU"]
    assert scores.groups["old"]["mIoU"] == pytest.approx((values["2"] + values["1"]) / 2)
    assert scores.groups["all"]["mIoU"] == pytest.approx(np.mean(list(values.values())))


def test_the_upper_bound_is_read_with_the_groups_of_a_scenario() -> None:
    """``joint`` learns in another order; the background still goes with the scenario's base classes."""
    counting = ConfusionAccumulator((1, 2), (1, 2), background_id=0)
    counting.add(np.array([[0, 0, 1, 2]]), np.array([[0, 1, 1, 2]]))
    scores = semantic_scores(counting.matrix(), {"old": (2,), "new": (1,), "all": (2, 1)}, get("plop"), True)
    assert scores.groups["old"]["mIoU"] == pytest.approx((50 + 100) / 2, abs=1e-3)
    assert scores.groups["new"]["mIoU"] == pytest.approx(50, abs=1e-3)


def test_empty_groups_and_absent_classes_give_no_value() -> None:
    counting = ConfusionAccumulator((1, 2), (1, 2))
    counting.add(np.array([[1]]), np.array([[1]]))
    scores = semantic_scores(
        counting.matrix(), {"old": (1,), "new": (2,), "past": (), "all": (1, 2)}, get("segue"), True
    )
    assert set(scores.groups) == {"old", "all"}
    assert scores.classes["IoU"]["2"] is None
    assert "hIoU" not in scores.groups["all"]


def test_groups_must_be_learnt(matrix: ConfusionMatrix) -> None:
    with pytest.raises(ScoreError, match="class 4"):
        semantic_scores(matrix, {"all": (4,)}, get("segue"), True)
    with pytest.raises(ScoreError, match="'base' is not a result group"):
        semantic_scores(matrix, {"base": (1,)}, get("segue"), True)


def test_every_protocol_is_complete() -> None:
    assert known() == ("segue", "mib", "sdr", "plop", "dkd-star", "ssul-barm", "balconpas", "comformer")
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert (protocol.geometry.kind == "full") == (protocol.geometry.size is None)
        assert protocol.source
    with pytest.raises(ProtocolError, match="'voc' is not an evaluation protocol; choose from segue, mib"):
        get("voc")


def test_protocols_agree_where_nothing_is_ambiguous() -> None:
    """No background, no future class, no void, every class present: all code bases compute the same number."""
    rng = np.random.default_rng(3)
    counting = ConfusionAccumulator((1, 2, 3), (1, 2, 3))
    labels = rng.integers(1, 4, (40, 40))
    counting.add(labels, np.where(rng.random((40, 40)) < 0.7, labels, rng.integers(1, 4, (40, 40))))
    groups = {"old": (1, 2), "new": (3,), "all": (1, 2, 3)}
    values = [semantic_scores(counting.matrix(), groups, p, True).groups["new"]["mIoU"] for p in PROTOCOLS.values()]
    assert max(values) - min(values) < 1e-6
