"""Ranks of methods against published ranks, on made-up confusion matrices."""

from __future__ import annotations

import numpy as np
import pytest

from model.evaluation.metrics.confusion import ConfusionAccumulator, ConfusionMatrix
from model.reporting.agreement import AgreementError, agreement_figure, agreement_rows, compare, kendall

IMAGES = 40


def matrix(accuracy: float, seed: int = 0, images: int = IMAGES) -> ConfusionMatrix:
    """Counts of a method that names so large a share of the pixels of each image rightly, give or take a little."""
    generator, counts = np.random.default_rng(seed), ConfusionAccumulator([1, 2], [1, 2], 0, 255)
    for _ in range(images):
        labels = generator.integers(0, 3, (12, 12)).astype(np.uint8)
        right = generator.random((12, 12)) < accuracy
        counts.add(labels, np.where(right, labels, (labels + 1) % 3))
    return counts.matrix()


def score(found: ConfusionMatrix) -> float:
    square = found.counts.sum(axis=0)
    return float(sum(square[k, k + 1] for k in range(2)) / square[:2].sum())


def compared(accuracies: dict[str, float], published: dict[str, float], seeds: int = 2, draws: int = 60):
    matrices = {
        method: [matrix(value, 10 * seed + place) for seed in range(seeds)]
        for place, (method, value) in enumerate(accuracies.items())
    }
    return compare(matrices, {"paper": published}, score, draws=draws, generator=np.random.default_rng(0))


OURS = {"a": 0.9, "b": 0.7, "c": 0.5, "d": 0.3}


@pytest.mark.parametrize(("order", "tau"), [("abcd", 1.0), ("dcba", -1.0), ("bacd", 2 / 3)])
def test_far_apart_methods_have_the_tau_of_their_order(order: str, tau: float) -> None:
    (found,) = compared(OURS, {method: 80.0 - 10 * place for place, method in enumerate(order)})
    assert found.methods == tuple(order)
    assert found.tau == pytest.approx(tau) and found.low == pytest.approx(tau) and found.high == pytest.approx(tau)


def test_methods_that_hardly_differ_have_a_wide_interval() -> None:
    close = dict.fromkeys("abcd", 0.6)
    (found,) = compared(close, {"a": 4.0, "b": 3.0, "c": 2.0, "d": 1.0}, draws=200)
    assert found.low < 0 < found.high or found.high - found.low > 0.5
    assert found.low <= found.tau <= found.high


def test_seeds_widen_the_interval_too() -> None:
    """Each of two seeds has the opposite order: whichever is drawn decides."""
    matrices = {
        "a": [matrix(0.9), matrix(0.5, 1)],
        "b": [matrix(0.7), matrix(0.7, 1)],
        "c": [matrix(0.5), matrix(0.9, 1)],
    }
    table = {"a": 3.0, "b": 2.0, "c": 1.0}
    (found,) = compare(matrices, {"paper": table}, score, draws=100, generator=np.random.default_rng(0))
    assert (found.low, found.high) == (-1.0, 1.0)


def test_only_shared_methods_count_and_two_are_too_few() -> None:
    (found,) = compared(OURS, {"a": 3.0, "c": 2.0, "d": 1.0, "unknown": 99.0})
    assert found.methods == ("a", "c", "d")
    assert compared(OURS, {"a": 3.0, "b": 2.0, "unknown": 1.0}) == []


def test_ties_are_allowed_for() -> None:
    assert kendall([1, 2, 3, 4], [1, 2, 2, 4]) == pytest.approx(5 / np.sqrt(6 * 5))
    assert np.isnan(kendall([1, 2, 3], [5, 5, 5]))


def test_other_images_or_seeds_are_refused() -> None:
    table = {"paper": {"a": 1.0, "b": 2.0, "c": 3.0}}
    for other in ([matrix(0.5, images=IMAGES - 1)], [matrix(0.5), matrix(0.5)]):
        matrices = {"a": [matrix(0.5)], "b": other, "c": [matrix(0.5)]}
        with pytest.raises(AgreementError, match="rank methods of the same images and seeds"):
            compare(matrices, table, score, draws=1, generator=np.random.default_rng(0))


def test_the_same_draws_give_the_same_interval_and_a_row_per_method() -> None:
    one, other = (compared(OURS, {"a": 1.0, "b": 3.0, "c": 2.0, "d": 4.0}) for _ in range(2))
    assert one == other
    rows = agreement_rows({"15-5 overlapped": one})
    assert rows["method"].tolist() == ["d", "b", "c", "a"] and set(rows["table"]) == {"paper"}
    (panel,) = agreement_figure({"15-5 overlapped": one}).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["15-5 overlapped: paper, 4 methods"]
    assert agreement_figure({}).axes
