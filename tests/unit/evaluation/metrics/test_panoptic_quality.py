"""Panoptic quality: matching, void, crowds, classes not learnt yet."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.metrics.overlaps import (
    OverlapError,
    PanopticAccumulator,
    PanopticOverlaps,
    Segment,
    shared_pixels,
)
from model.evaluation.metrics.panoptic_quality import mean_quality, panoptic_counts, panoptic_quality, panoptic_scores
from model.evaluation.protocols import get


def row(*runs: tuple[int, int]) -> np.ndarray:
    """A one-line map: (id, pixels) after each other."""
    return np.concatenate([np.full(pixels, identity) for identity, pixels in runs])[None]


def overlaps(
    truth: np.ndarray, true: list[Segment], prediction: np.ndarray, predicted: list[Segment]
) -> PanopticOverlaps:
    accumulator = PanopticAccumulator()
    accumulator.add(truth, true, prediction, predicted)
    return accumulator.overlaps()


def counts_of(found: PanopticOverlaps, classes: list[int], **options: object) -> dict[int, tuple[float, int, int, int]]:
    counts = panoptic_counts(found, classes, **options)
    rows = zip(counts.iou.tolist(), counts.tp.tolist(), counts.fp.tolist(), counts.fn.tolist(), strict=True)
    return dict(zip(counts.classes, rows, strict=True))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.int32, np.uint32, np.int64, np.uint8]))
def test_shared_pixels_are_those_of_a_loop(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    ids = np.array([0, 1, 7, 250 if dtype is np.uint8 else 2**24 - 1]).astype(dtype)
    a, b = (np.repeat(rng.choice(ids, (6, 3)), 3, axis=1) for _ in range(2))
    expected = Counter(zip(a.ravel().tolist(), b.ravel().tolist(), strict=True))
    first, second, pixels = shared_pixels(a, b)
    assert dict(zip(zip(first.tolist(), second.tolist(), strict=True), pixels.tolist(), strict=True)) == dict(expected)


def test_a_match_needs_more_than_half() -> None:
    exactly = overlaps(row((1, 10), (0, 90)), [Segment(1, 5)], row((2, 5), (0, 95)), [Segment(2, 5)])
    assert counts_of(exactly, [5]) == {5: (0, 0, 1, 1)}
    more = overlaps(row((1, 10), (0, 90)), [Segment(1, 5)], row((2, 6), (0, 94)), [Segment(2, 5)])
    assert counts_of(more, [5]) == {5: (0.6, 1, 0, 0)}


def test_the_class_must_agree() -> None:
    found = overlaps(row((1, 10)), [Segment(1, 5)], row((2, 10)), [Segment(2, 6)])
    assert counts_of(found, [5, 6]) == {5: (0, 0, 0, 1), 6: (0, 0, 1, 0)}


def test_predicted_pixels_on_void_do_not_count() -> None:
    found = overlaps(row((1, 10), (0, 10)), [Segment(1, 5)], row((2, 14), (0, 6)), [Segment(2, 5)])
    assert counts_of(found, [5]) == {5: (1.0, 1, 0, 0)}


@pytest.mark.parametrize(("on_void", "false_positives"), [(6, 0), (5, 1)])
def test_predictions_mostly_on_void_are_excused(on_void: int, false_positives: int) -> None:
    truth = row((0, on_void), (1, 10 - on_void), (1, 90))
    found = overlaps(truth, [Segment(1, 5)], row((2, 10), (0, 90)), [Segment(2, 6)])
    assert counts_of(found, [5, 6])[6] == (0, 0, false_positives, 0)


@pytest.mark.parametrize(("category", "false_positives"), [(5, 0), (6, 1)])
def test_crowds_excuse_their_own_class_only(category: int, false_positives: int) -> None:
    found = overlaps(row((1, 10)), [Segment(1, 5, crowd=True)], row((2, 10)), [Segment(2, category)])
    counts = counts_of(found, [5, 6])
    assert counts[category] == (0, 0, false_positives, 0)
    assert counts[5][3] == 0  # a crowd is never missed


def test_annotated_areas_may_exceed_what_is_visible() -> None:
    """ADE20K counts a stuff segment before things are painted over it."""
    truth, prediction = row((1, 60), (0, 40)), row((2, 60), (0, 40))
    assert counts_of(overlaps(truth, [Segment(1, 5, area=100)], prediction, [Segment(2, 5)]), [5]) == {
        5: (0.6, 1, 0, 0)
    }


@pytest.mark.parametrize(
    ("fate", "expected"),
    [
        ("void", {1: (1.0, 1, 0, 0)}),
        ("drop", {1: (0.0, 0, 1, 1)}),
        ("keep", {1: (0.0, 0, 1, 1), 9: (0.0, 0, 0, 1)}),
    ],
)
def test_classes_not_learnt_yet(fate: str, expected: dict) -> None:
    """A prediction of class 1 spreads over a segment of class 9, which comes later."""
    found = overlaps(row((1, 40), (2, 60)), [Segment(1, 1), Segment(2, 9)], row((1, 100)), [Segment(1, 1)])
    assert counts_of(found, [1], unseen_segments=fate) == expected


def test_protocols_differ_before_the_last_step_only() -> None:
    truth, prediction = row((1, 40), (2, 60)), row((1, 30), (2, 70))
    found = overlaps(truth, [Segment(1, 1), Segment(2, 9)], prediction, [Segment(1, 1), Segment(2, 9)])
    for name in ("segue", "balconpas", "comformer"):
        scores = panoptic_scores(found, [1, 9], [9], {"old": [1], "new": [9], "all": [1, 9]}, get(name))
        assert scores.groups["all"]["PQ"] == pytest.approx(100 * (30 / 40 + 60 / 70) / 2)
        assert scores.groups["new"]["PQ_things"] == scores.groups["new"]["PQ"]
        assert "PQ_stuff" not in scores.groups["new"]
    early = overlaps(truth, [Segment(1, 1), Segment(2, 9)], row((1, 40), (0, 60)), [Segment(1, 1)])
    means = {
        name: panoptic_scores(early, [1], [9], {"all": [1]}, get(name)).groups["all"]["PQ"]
        for name in ("segue", "balconpas", "comformer")
    }
    assert means == {"segue": 100, "balconpas": 100, "comformer": 50}  # the missing class counts as 0


def test_images_without_a_seen_class() -> None:
    accumulator = PanopticAccumulator()
    accumulator.add(row((1, 10)), [Segment(1, 1)], row((1, 10)), [Segment(1, 1)])
    accumulator.add(row((1, 10)), [Segment(1, 9)], row((1, 10)), [Segment(1, 1)])
    found = accumulator.overlaps()
    assert found.images == 2
    assert counts_of(found, [1], unseen_segments="drop") == {1: (1.0, 1, 1, 0)}
    assert counts_of(found, [1], unseen_segments="drop", seen_images_only=True) == {1: (1.0, 1, 0, 0)}


def test_qualities_by_hand() -> None:
    truth, prediction = row((1, 10), (2, 10), (3, 10)), row((1, 8), (0, 2), (0, 10), (2, 10))
    found = overlaps(truth, [Segment(1, 5), Segment(2, 5), Segment(3, 6)], prediction, [Segment(1, 5), Segment(2, 5)])
    counts = panoptic_counts(found, [5, 6, 7])
    quality = panoptic_quality(counts)
    np.testing.assert_allclose(quality["PQ"], [0.8 / 2, 0, np.nan])
    np.testing.assert_allclose(quality["SQ"], [0.8, 0, np.nan])
    np.testing.assert_allclose(quality["RQ"], [1 / 2, 0, np.nan])
    assert mean_quality(counts, [2]) is None
    assert mean_quality(counts, [0, 1, 2]) == pytest.approx({"PQ": 0.2, "SQ": 0.4, "RQ": 0.25})


def test_the_order_of_images_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    images = []
    for _ in range(5):
        truth, prediction = (np.repeat(rng.integers(0, 4, (4, 3)), 3, axis=1) for _ in range(2))
        lists = [[Segment(i, int(rng.integers(1, 4))) for i in np.unique(m).tolist() if i] for m in (truth, prediction)]
        images.append((truth, lists[0], prediction, lists[1]))
    results = []
    for order in (images, images[::-1]):
        accumulator = PanopticAccumulator()
        for image in order:
            accumulator.add(*image)
        results.append(counts_of(accumulator.overlaps(), [3, 1, 2]))
    assert results[0].keys() == results[1].keys()
    for category in results[0]:
        assert results[0][category] == pytest.approx(results[1][category])


def test_round_trip(tmp_path: Path) -> None:
    found = overlaps(row((1, 10), (0, 2)), [Segment(1, 5, crowd=True)], row((2, 10), (0, 2)), [Segment(2, 5)])
    for name in ("a.npz", "b.npz"):
        found.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = PanopticOverlaps.load(tmp_path / "a.npz")
    assert again.images == 1
    for name in ("truth", "prediction", "overlap"):
        np.testing.assert_array_equal(getattr(again, name), getattr(found, name))
    (tmp_path / "c.npz").write_bytes(b"nothing")
    with pytest.raises(OverlapError, match=r"c\.npz holds no panoptic overlaps"):
        PanopticOverlaps.load(tmp_path / "c.npz")
    np.savez(tmp_path / "d.npz", truth=[1], prediction=[1], overlap=[1], images=1)
    with pytest.raises(OverlapError, match="another format"):
        PanopticOverlaps.load(tmp_path / "d.npz")


def test_nothing_at_all() -> None:
    empty = PanopticAccumulator().overlaps()
    assert counts_of(empty, [1]) == {1: (0, 0, 0, 0)}
    assert panoptic_scores(empty, [1], [1], {"all": [1]}, get("segue")).groups == {}
    void = overlaps(row((0, 4)), [], row((0, 4)), [])
    assert counts_of(void, [1]) == {1: (0, 0, 0, 0)}


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([], [Segment(2, 5)], "true segment 1, which is not in the list"),
        ([Segment(1, 5)], [], "predicted segment 2, which is not in the list"),
        ([Segment(1, 5)], [Segment(2, 5), Segment(3, 5)], "predicted segment 3 has no pixel"),
        ([Segment(1, 5), Segment(1, 6)], [Segment(2, 5)], "true segment 1: ids must differ"),
        ([Segment(1, 5)], [Segment(0, 5)], "predicted segment 0"),
    ],
)
def test_maps_and_lists_must_fit(true: list[Segment], predicted: list[Segment], message: str) -> None:
    with pytest.raises(OverlapError, match=message):
        overlaps(row((1, 4)), true, row((2, 4)), predicted)


def test_bad_arguments() -> None:
    found = overlaps(row((1, 4)), [Segment(1, 5)], row((2, 4)), [Segment(2, 5)])
    with pytest.raises(ValueError, match="class 5, which is not among the 1 learnt"):
        panoptic_counts(found, [6])
    with pytest.raises(ValueError, match=r"threshold of 0\.3"):
        panoptic_counts(found, [5], threshold=0.3)
    with pytest.raises(OverlapError, match="true segments are"):
        overlaps(row((1, 4)), [Segment(1, 5)], row((2, 5)), [Segment(2, 5)])
