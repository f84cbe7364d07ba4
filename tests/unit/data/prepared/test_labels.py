import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.prepared.labels import LabelError, apply_lookup, pixel_lookup, row_lookup


def test_visible_classes_become_positions_and_all_others_background() -> None:
    table = pixel_lookup([0, 1, 2, 3], seen=[3, 1, 0], visible=[0, 1], background_id=255, void_id=None)
    raw = np.array([[0, 1, 2], [3, 255, 0]], dtype=np.uint8)
    assert apply_lookup(raw, table).tolist() == [[3, 2, 0], [0, 0, 3]]


@pytest.mark.parametrize(("policy", "expected"), [("ignore", 255), ("background", 0)])
def test_void_in_training(policy: str, expected: int) -> None:
    table = pixel_lookup([1, 2], [1], [1], background_id=0, void_id=255, void_in_training=policy)  # type: ignore[arg-type]
    assert table[[0, 1, 2, 255]].tolist() == [0, 1, 0, expected]


def test_values_that_the_dataset_does_not_use_are_ignored() -> None:
    table = pixel_lookup([1, 2], [1], [1], background_id=0, void_id=None)
    assert set(table[3:].tolist()) == {255}


@given(st.lists(st.integers(0, 60000), min_size=1, max_size=20, unique=True))
def test_rows_of_the_confusion_matrix(categories: list[int]) -> None:
    table = row_lookup(categories, background_id=60001, void_id=65535)
    raw = np.array([categories], dtype=np.uint16)
    assert apply_lookup(raw, table)[0].tolist() == list(range(len(categories)))
    assert table[60001] == len(categories)
    assert table[65535] == len(categories) + 1


def test_sixteen_bit_labels_need_a_table_that_reaches_them() -> None:
    table = pixel_lookup([1, 2], [1], [1], None, None)
    with pytest.raises(LabelError, match="label 300 is beyond"):
        apply_lookup(np.array([[300]], dtype=np.uint16), table)
    assert apply_lookup(np.array([[2, 1]], dtype=np.uint16), table).tolist() == [[0, 1]]


def test_impossible_classes_are_named() -> None:
    with pytest.raises(LabelError, match=r"\[9\] are not in the dataset"):
        pixel_lookup([1, 2], [1, 9], [1], None, None)
    with pytest.raises(LabelError, match=r"\[2\] are visible but not learnt"):
        pixel_lookup([1, 2], [1], [1, 2], None, None)
    with pytest.raises(LabelError, match="has two meanings"):
        pixel_lookup([0, 1], [1], [1], background_id=0, void_id=None)
    with pytest.raises(LabelError, match="255 classes do not fit"):
        pixel_lookup(range(255), range(255), range(255), None, None)
    with pytest.raises(LabelError, match="learnt twice"):
        pixel_lookup([1, 2], [1, 1], [1], None, None)
