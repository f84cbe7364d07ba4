import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.prepared.scaling import scaled_labels, scaled_photograph, scaled_size


@given(st.integers(1, 2000), st.integers(1, 2000), st.integers(32, 1000))
def test_nothing_becomes_larger_and_proportions_stay(height: int, width: int, side: int) -> None:
    size = scaled_size((height, width), side)
    if max(height, width) <= side:
        assert size == (height, width)
    else:
        assert max(size) == side and min(size) >= 1
        assert abs(size[0] * width - size[1] * height) <= max(height, width, side)
    assert scaled_size((height, width), None) == (height, width)


def test_labels_are_never_mixed_and_stay_where_they_are() -> None:
    labels = np.repeat(np.repeat(np.array([[1, 255], [20, 0]], np.uint8), 30, axis=0), 50, axis=1)
    small = scaled_labels(labels, (20, 34))
    assert small.shape == (20, 34) and small.dtype == labels.dtype
    assert (small[:10, :17] == 1).all() and (small[:10, 17:] == 255).all()
    assert (small[10:, :17] == 20).all() and (small[10:, 17:] == 0).all()


def test_a_photograph_keeps_its_colours() -> None:
    image = np.full((61, 99, 3), (10, 120, 250), np.uint8)
    assert scaled_photograph(image, (31, 50)).shape == (31, 50, 3)
    assert np.abs(scaled_photograph(image, (31, 50)).astype(int) - (10, 120, 250)).max() <= 1


@pytest.mark.parametrize("size", [(7, 9), (13, 5)])
def test_the_label_of_a_pixel_is_that_at_its_centre(size: tuple[int, int]) -> None:
    labels = np.arange(40 * 60, dtype=np.uint16).reshape(40, 60)
    for (i, j), value in np.ndenumerate(scaled_labels(labels, size)):
        assert value == labels[int((i + 0.5) * 40 / size[0]), int((j + 0.5) * 60 / size[1])]
