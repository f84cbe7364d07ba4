import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.loading.normalisation import normalise
from model.data.loading.pixel_transforms import (
    FullImage,
    RandomResizedCrop,
    ResizeCentreCrop,
    ScaleCrop,
    TransformError,
    build_transform,
    resize,
)


def coded(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """An image whose red and green are row and column, and labels that repeat the red channel."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([y, x, np.full_like(x, 7)], axis=-1), y


@settings(deadline=None, max_examples=50)
@given(height=st.integers(20, 120), width=st.integers(20, 120), seed=st.integers(0, 999))
@pytest.mark.parametrize(
    "transform", [RandomResizedCrop(48), ScaleCrop(48), ScaleCrop(48, pad_all_sides=True), ResizeCentreCrop(48)]
)
def test_image_and_labels_stay_together(transform: object, height: int, width: int, seed: int) -> None:
    image, labels = transform(*coded(height, width), np.random.default_rng(seed))  # type: ignore[operator]
    assert image.shape == (48, 48, 3) and labels.shape == (48, 48)
    inside = image[..., 2] == 7  # padding is black
    step = 2 * max(height, width, 48) / 48 + 2  # a row of the result may lie between rows of the original
    assert np.abs(image[..., 0].astype(int) - labels)[inside].max(initial=0) <= step
    assert not labels[image[..., 2] == 0].any()


def test_released_crops_cover_half_to_all_of_the_area() -> None:
    transform = RandomResizedCrop(64)
    generator = np.random.default_rng(0)
    windows = np.array([transform._window(90, 120, generator) for _ in range(2000)])
    area = windows[:, 2] * windows[:, 3] / (90 * 120)
    aspect = windows[:, 3] / windows[:, 2]
    assert 0.49 < area.min() < 0.52 and area.max() == 1.0
    assert aspect.min() > 0.74 and aspect.max() < 1.35
    assert (windows[:, 0] + windows[:, 2] <= 90).all() and (windows[:, 1] + windows[:, 3] <= 120).all()
    assert len(np.unique(windows[:, 0])) > 20


@pytest.mark.parametrize(
    ("size", "window"), [((90, 200), (0, 40, 90, 120)), ((200, 90), (40, 0, 120, 90)), ((80, 90), (0, 0, 80, 90))]
)
def test_the_fallback_is_the_centre_of_an_allowed_aspect(size: tuple[int, int], window: tuple[int, ...]) -> None:
    never = RandomResizedCrop(64, area=(1.9, 2.0))
    assert never._window(*size, np.random.default_rng(0)) == window


def test_scale_crop_pads_with_background() -> None:
    image, labels = np.full((40, 40, 3), 200, np.uint8), np.full((40, 40), 9, np.uint8)
    small = ScaleCrop(64, scale=(0.5, 0.5))
    image, labels = small(image, labels, np.random.default_rng(0))
    assert (labels == 9).sum() == 400 and (labels == 0).sum() == 64 * 64 - 400
    assert (image[labels == 0] == 0).all()
    _, ignored = ScaleCrop(64, scale=(0.5, 0.5), pad_label=255)(image, labels, np.random.default_rng(0))
    assert (ignored == 255).sum() == 64 * 64 - 32 * 32


@settings(deadline=None, max_examples=100)
@given(height=st.integers(5, 120), width=st.integers(5, 120), seed=st.integers(0, 999))
def test_padding_on_all_sides_is_the_released_one(height: int, width: int, seed: int) -> None:
    """First for the width, then for the height, always on all four sides; the crop is drawn from the padded image."""
    size, generator = 48, np.random.default_rng(seed)
    image, labels = coded(height, width)
    found, found_labels = ScaleCrop(size, scale=(1.0, 1.0), flip=0.0, pad_all_sides=True)(image, labels, generator)

    generator = np.random.default_rng(seed)
    generator.uniform(1.0, 1.0)
    for axis in (1, 0):
        if (missing := size - labels.shape[axis]) > 0:
            edge = int((1 + missing) / 2)
            image, labels = np.pad(image, ((edge, edge), (edge, edge), (0, 0))), np.pad(labels, edge)
    top, left = (int(generator.integers(side - size + 1)) for side in labels.shape)
    window = np.s_[top : top + size, left : left + size]
    np.testing.assert_array_equal(found, image[window])
    np.testing.assert_array_equal(found_labels, labels[window])


def test_mirroring_happens_half_of_the_time_to_both() -> None:
    image, labels = coded(32, 32)
    labels = image[..., 1].copy()
    transform = RandomResizedCrop(32, area=(1.0, 1.0), aspect=(1.0, 1.0))
    results = [transform(image, labels, np.random.default_rng(seed)) for seed in range(200)]
    mirrored = [int(found[0, 0]) == 31 for _, found in results]
    assert 70 < sum(mirrored) < 130
    assert all((picture[..., 1] == found).all() for picture, found in results)


def test_centre_crop_of_the_resized_image() -> None:
    image, labels = coded(60, 120)
    image, labels = ResizeCentreCrop(30)(image, labels, np.random.default_rng(0))
    assert labels[0, 0] in (0, 1) and labels[-1, 0] in (58, 59)
    assert abs(int(image[0, 0, 1]) - 31) <= 1 and abs(int(image[0, -1, 1]) - 89) <= 1


def test_labels_take_the_nearest_pixel_centre() -> None:
    labels = np.arange(6, dtype=np.uint8)[None].repeat(2, axis=0)
    assert resize(np.zeros((2, 6, 3), np.uint8), labels, 2, 3)[1][0].tolist() == [1, 3, 5]
    assert resize(np.zeros((2, 6, 3), np.uint8), labels, 2, 12)[1][0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]


def test_shrinking_is_anti_aliased() -> None:
    stripes = np.zeros((32, 32, 3), np.uint8)
    stripes[:, ::2] = 200
    shrunk, _ = resize(stripes, stripes[..., 0], 8, 8)
    assert shrunk.min() > 80 and shrunk.max() < 120


def test_full_image_changes_nothing() -> None:
    image, labels = coded(20, 30)
    same_image, same_labels = FullImage()(image, labels, np.random.default_rng(0))
    assert same_image is image and same_labels is labels


def test_normalisation_is_that_of_imagenet() -> None:
    image = np.zeros((1, 2, 3), np.uint8)
    image[0, 1] = 255
    values = normalise(image)
    assert values.shape == (3, 1, 2) and values.dtype == np.float32
    assert math.isclose(values[0, 0, 0], -0.485 / 0.229, rel_tol=1e-5)
    assert math.isclose(values[2, 0, 1], (1 - 0.406) / 0.225, rel_tol=1e-5)


def test_transforms_of_recipes() -> None:
    assert build_transform("random-resized-crop", size=64, area=[0.6, 1.0]) == RandomResizedCrop(64, (0.6, 1.0))
    with pytest.raises(TransformError, match="unknown transform 'crop'"):
        build_transform("crop", size=3)
    with pytest.raises(TransformError, match=r"scale-crop.*'sise'"):
        build_transform("scale-crop", sise=3)
