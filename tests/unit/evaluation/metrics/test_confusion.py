"""Raw confusion matrices."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.evaluation.metrics.confusion import (
    WITH_SEEN,
    WITHOUT_SEEN,
    ConfusionAccumulator,
    ConfusionError,
    ConfusionMatrix,
)

CATEGORIES = (3, 7, 4, 9)
CLASSES = (9, 3)
BACKGROUND, VOID = 0, 255


def accumulator() -> ConfusionAccumulator:
    return ConfusionAccumulator(CATEGORIES, CLASSES, BACKGROUND, VOID)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16, np.int64]))
def test_every_pixel_is_counted_where_a_loop_would_count_it(seed: int, dtype: type) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.choice([*CATEGORIES, BACKGROUND, VOID], (5, 6)).astype(dtype)
    prediction = rng.integers(0, 3, (5, 6))
    counting = accumulator()
    counting.add(labels, prediction)
    expected = np.zeros((6, 3), np.int64)
    row_of = {**{c: i for i, c in enumerate(CATEGORIES)}, BACKGROUND: 4, VOID: 5}
    for label, position in zip(labels.ravel().tolist(), prediction.ravel().tolist(), strict=True):
        expected[row_of[label], position] += 1
    np.testing.assert_array_equal(counting.matrix().counts.sum(axis=0), expected)


@pytest.mark.parametrize("run", [1, 20])
@pytest.mark.parametrize("classes", [3, 255, 256, 400])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32])
def test_counts_are_the_same_for_every_kind_of_map(run: int, classes: int, dtype: type) -> None:
    rng = np.random.default_rng(classes)
    labels = rng.integers(0, min(classes, 256), (40, 100 // run)).repeat(run, axis=1)
    prediction = rng.integers(0, classes + 1, (100 // run, 40)).repeat(run, axis=0).T  # not contiguous
    counting = ConfusionAccumulator(range(classes), range(classes))
    counting.add(labels.astype(dtype), prediction, has_seen_class=True)
    expected = np.bincount((labels * (classes + 1) + prediction).ravel(), minlength=classes * (classes + 1))
    counts = counting.matrix().counts[WITH_SEEN]
    np.testing.assert_array_equal(counts[:classes], expected.reshape(classes, classes + 1))
    assert counts.sum() == labels.size


def test_an_image_with_more_pixels_than_single_precision_counts() -> None:
    labels = np.zeros((4097, 8192), np.uint8)  # 2^25 + 2^13 pixels, of two pairs by turns
    prediction = np.zeros_like(labels)
    prediction[:, ::2] = 1
    counting = ConfusionAccumulator((0,), (0,))
    counting.add(labels, prediction, has_seen_class=True)
    assert counting.matrix().counts[WITH_SEEN][0].tolist() == [labels.size // 2, labels.size // 2]


def test_images_without_a_seen_class_are_kept_apart() -> None:
    counting = accumulator()
    counting.add(np.full((2, 2), 9), np.ones((2, 2), int))
    counting.add(np.full((2, 2), 7), np.zeros((2, 2), int))
    counting.add(np.full((1, 1), 7), np.zeros((1, 1), int), has_seen_class=True)  # a crop of a larger image
    matrix = counting.matrix()
    assert matrix.images == (2, 1)
    assert matrix.counts[WITH_SEEN].sum() == 5
    assert matrix.counts[WITHOUT_SEEN].sum() == 4


def test_what_is_handed_out_does_not_change_afterwards() -> None:
    counting = accumulator()
    before = counting.matrix()
    counting.add(np.array([[3]]), np.array([[2]]))
    assert before.counts.sum() == 0


def test_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    counting = accumulator()
    counting.add(np.array([[3, 255]]), np.array([[2, 0]]))
    matrix = counting.matrix()
    for name in ("a.npz", "b.npz"):
        matrix.save(tmp_path / name)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    again = ConfusionMatrix.load(tmp_path / "a.npz")
    assert (again.categories, again.classes, again.images) == (CATEGORIES, CLASSES, (1, 0))
    np.testing.assert_array_equal(again.counts, matrix.counts)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.npz", "b.npz"]


@pytest.mark.parametrize("content", [b"", b"not an archive"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "confusion.npz"
    file.write_bytes(content)
    with pytest.raises(ConfusionError, match=r"confusion\.npz is not a stored confusion matrix"):
        ConfusionMatrix.load(file)


def test_files_with_other_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", counts=np.zeros(3))
    with pytest.raises(ConfusionError, match="categories"):
        ConfusionMatrix.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("labels", "prediction", "message"),
    [
        (np.array([[5]]), np.array([[0]]), "label 5 is neither in the class table"),
        (np.array([[300]]), np.array([[0]]), "label 300: the class table ends before"),
        (np.array([[-1]]), np.array([[0]]), "label -1"),
        (np.array([[3]]), np.array([[3]]), "positions 0…2"),
        (np.array([[3]]), np.array([[-1]]), "prediction -1"),
        (np.array([[3]]), np.array([[0.5]]), "needs integers"),
        (np.array([[3]]), np.array([[0, 1]]), "resize"),
        (np.zeros((0, 4), int), np.zeros((0, 4), int), "without pixels"),
    ],
)
def test_bad_maps(labels: np.ndarray, prediction: np.ndarray, message: str) -> None:
    with pytest.raises(ConfusionError, match=message):
        accumulator().add(labels, prediction)


@pytest.mark.parametrize(
    ("categories", "classes", "background", "message"),
    [
        ((1, 2), (1, 3), None, "class 3 is not among"),
        ((1, 2), (1, 1), None, "learnt twice"),
        ((1, 2), (1,), 2, "different labels"),
    ],
)
def test_bad_class_tables(categories: tuple, classes: tuple, background: int | None, message: str) -> None:
    with pytest.raises(ConfusionError, match=message):
        ConfusionAccumulator(categories, classes, background)


def test_images_can_be_drawn_again(tmp_path):
    """Each image counted once gives the matrix itself; twice the first alone gives twice the counts of the first."""
    generator, first = np.random.default_rng(0), ConfusionAccumulator([3, 7], [7], 0, 255)
    counts = ConfusionAccumulator([3, 7], [7], 0, 255)
    for number in range(4):
        labels = generator.choice([0, 3, 255] if number == 1 else [0, 3, 7, 255], (5, 6)).astype(np.uint8)
        prediction = generator.integers(0, 2, (5, 6))
        counts.add(labels, prediction)
        if number == 0:
            first.add(labels, prediction)
    counts.matrix().save(tmp_path / "counts.npz")
    whole = ConfusionMatrix.load(tmp_path / "counts.npz")
    same = whole.resampled(np.ones(4, int))
    assert np.array_equal(same.counts, whole.counts) and same.images == whole.images == (3, 1)
    twice = whole.resampled(np.array([2, 0, 0, 0]))
    assert np.array_equal(twice.counts, 2 * first.matrix().counts) and twice.images == (2, 0)
    with pytest.raises(ConfusionError, match="there are 4 images, not 3"):
        whole.resampled(np.ones(3, int))
    with pytest.raises(ConfusionError, match="were not kept"):
        ConfusionMatrix(whole.categories, whole.classes, whole.counts, whole.images).resampled(np.ones(4, int))
