import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from model.data.loading.resampling import Window, nearest, resize_as_torch, resize_image, resize_labels

SIDES = st.integers(1, 90)


@st.composite
def cases(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int], Window]:
    before, after = (draw(SIDES), draw(SIDES)), (draw(SIDES), draw(SIDES))
    top, left = (draw(st.integers(0, side - 1)) for side in after)
    return before, after, Window(top, left, draw(st.integers(1, after[0] - top)), draw(st.integers(1, after[1] - left)))


@settings(deadline=None, max_examples=200)
@given(cases())
def test_a_window_is_a_part_of_the_whole(case: tuple[tuple[int, int], tuple[int, int], Window]) -> None:
    before, after, window = case
    image = np.random.default_rng(before).integers(0, 256, (*before, 3), np.uint8)
    whole = np.asarray(Image.fromarray(image).resize(after[::-1], Image.Resampling.BILINEAR))
    assert np.array_equal(resize_image(image, after), whole)
    assert np.array_equal(resize_image(image, after, window), whole[window.slices])
    labels = np.random.default_rng(after).integers(0, 65536, before, np.uint16)
    whole = cv2.resize(labels, after[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    assert np.array_equal(resize_labels(labels, after), whole)
    assert np.array_equal(resize_labels(labels, after, window), whole[window.slices])


def test_torch_takes_the_pixel_that_holds_the_corner() -> None:
    layers = np.arange(12, dtype=np.uint8).reshape(1, 3, 4)
    assert resize_as_torch(layers, (3, 2)).tolist() == [[[0, 2], [4, 6], [8, 10]]]
    larger = resize_as_torch(layers, (6, 6))
    assert larger.dtype == np.uint8 and larger[0, 0].tolist() == [0, 0, 1, 2, 2, 3]


def test_the_nearest_centre_is_taken() -> None:
    assert nearest(4, 8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert nearest(9, 3).tolist() == [1, 4, 7]
    assert nearest(3, 2).tolist() == [0, 2]
