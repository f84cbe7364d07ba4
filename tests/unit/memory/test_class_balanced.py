import numpy as np
import pytest

from model.memory.class_balanced import select_class_balanced


def test_rare_classes_get_their_turn() -> None:
    presence = np.zeros((100, 3), dtype=bool)
    presence[:, 0] = True
    presence[[7, 8], 1] = True
    presence[[9], 2] = True
    picked = select_class_balanced(presence, 6, np.random.default_rng(0))
    assert len(set(picked)) == 6
    assert {9} <= set(picked) and set(picked) & {7, 8}


def test_no_image_twice_and_none_without_a_class() -> None:
    presence = np.array([[1, 1], [0, 0], [1, 0], [0, 1]])
    assert sorted(select_class_balanced(presence, 10, np.random.default_rng(3))) == [0, 2, 3]


def test_the_order_is_round_robin_over_the_shuffled_classes() -> None:
    class Reversing:
        def shuffle(self, x: list[int]) -> None:
            x.reverse()

    presence = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    assert select_class_balanced(presence, 3, Reversing()) == [3, 1, 2]


@pytest.mark.parametrize("seed", range(3))
def test_equal_seeds_equal_memories(seed: int) -> None:
    presence = np.random.default_rng(9).random((50, 6)) < 0.3
    first = select_class_balanced(presence, 20, np.random.default_rng(seed))
    assert first == select_class_balanced(presence, 20, np.random.default_rng(seed))
    assert first != select_class_balanced(presence, 20, np.random.default_rng(seed + 1))
