import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.memory.class_proportional import SelectionError, select_class_proportional


def plain_loops(counts: np.ndarray, target: np.ndarray, number: int, start: np.ndarray) -> list[int]:
    """The definition, candidate by candidate."""
    held, shares, picked = start.astype(float), target / target.sum(), []
    for _ in range(min(number, len(counts))):
        best, least = -1, np.inf
        for row, content in enumerate(counts):
            if row in picked:
                continue
            mixed = held + content
            cost = np.abs(mixed / mixed.sum() - shares).sum()
            if cost < least:
                best, least = row, cost
        picked.append(best)
        held = held + counts[best]
    return picked


@settings(deadline=None, max_examples=60)
@given(seed=st.integers(0, 10_000), images=st.integers(1, 40), classes=st.integers(1, 12), number=st.integers(0, 15))
def test_equals_the_plain_double_loop(seed: int, images: int, classes: int, number: int) -> None:
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, 4, (images, classes)) * (generator.random((images, classes)) < 0.4)
    counts[~counts.any(axis=1), 0] = 1
    counts = counts[generator.integers(0, images, images)]  # equal candidates: ties
    start = generator.integers(0, 5, classes)
    target = counts.sum(axis=0) + start + 1
    assert select_class_proportional(counts, target, number, start) == plain_loops(counts, target, number, start)


def test_the_first_of_equal_candidates_wins() -> None:
    counts = np.array([[0, 2], [1, 1], [1, 1], [2, 0]])
    assert select_class_proportional(counts, np.array([5, 5]), 2) == [1, 2]


def test_shares_of_the_memory_approach_the_target() -> None:
    generator = np.random.default_rng(0)
    counts = (generator.random((2000, 20)) < np.geomspace(0.5, 0.02, 20)).astype(int)
    counts = counts[counts.any(axis=1)]
    target = counts.sum(axis=0)
    picked = select_class_proportional(counts, target, 100)
    share = counts[picked].sum(axis=0) / counts[picked].sum()
    chance = counts[:100].sum(axis=0) / counts[:100].sum()
    wanted = target / target.sum()
    assert np.abs(share - wanted).sum() < 0.02 < np.abs(chance - wanted).sum()


@pytest.mark.parametrize(
    ("counts", "target", "message"),
    [
        ([[1, 0], [0, 0]], [1, 1], "candidate 1 has no annotation"),
        ([[1, 0]], [0, 0], "nothing to be proportional to"),
        ([[1, -1]], [1, 1], "must not be negative"),
        ([[0.5, 1]], [1, 1], "integers"),
        ([[1, 1]], [1, 1, 1], "do not belong together"),
    ],
)
def test_bad_input_is_named(counts: list[list[float]], target: list[int], message: str) -> None:
    with pytest.raises(SelectionError, match=message):
        select_class_proportional(np.array(counts), np.array(target), 1)


def test_no_candidates_give_no_exemplars() -> None:
    assert select_class_proportional(np.zeros((0, 3), dtype=int), np.array([1, 1, 1]), 4) == []
