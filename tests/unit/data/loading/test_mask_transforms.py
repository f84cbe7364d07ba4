from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.loading.color_jitter import color_jitter
from model.data.loading.mask_transforms import (
    PADDING,
    FixedSquare,
    LargeScaleJitter,
    MaskTransform,
    MaskTransformError,
    ShortestEdgeCrop,
    build_mask_transform,
    resize,
    shortest_edge_size,
)
from model.data.prepared.segments import Segments, disjoint_segments


def scene(height: int, width: int) -> tuple[np.ndarray, Segments]:
    """A bright left half that is segment 0, and a dark right half that is segment 1."""
    ids = np.where(np.arange(width) < width // 2, 4, 6)[None].repeat(height, axis=0)
    image = np.where(ids[..., None] == 4, 240, 10).astype(np.uint8).repeat(3, axis=2)
    return image, disjoint_segments(ids, [4, 6], [0, 1])


PIPELINES: list[MaskTransform] = [
    ShortestEdgeCrop(64, (40, 64, 96), color=False),
    LargeScaleJitter(64),
    FixedSquare(96),
]


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 120), st.integers(20, 120), st.integers(0, 10**6), st.sampled_from(PIPELINES))
def test_image_and_segments_stay_together(height: int, width: int, seed: int, pipeline: MaskTransform) -> None:
    image, segments, (inner_height, inner_width) = pipeline(*scene(height, width), np.random.default_rng(seed))
    side = pipeline.size  # type: ignore[attr-defined]
    assert image.shape == (side, side, 3) and segments.layers.shape == (1, side, side)
    labels, masks = segments.targets()
    assert labels.tolist() == [0, 1]
    inside = np.zeros((side, side), bool)
    inside[:inner_height, :inner_width] = True
    assert (image[~inside] == PADDING).all() and not masks[:, ~inside].any()
    assert masks.any(axis=0)[inside].all()
    edge = np.zeros((side, side), bool)  # bilinear pixels near the border of the two halves are mixed
    change = masks[0][:, 1:] != masks[0][:, :-1]
    for shift in range(-4, 5):
        edge |= np.roll(np.pad(change, ((0, 0), (0, 1))), shift, axis=1)
    if inner_width < 4:  # the filter reaches over the border from everywhere, even where one half has no pixel left
        return
    assert (image[masks[0] & ~edge] > 200).all() and (image[masks[1] & ~edge] < 50).all()


@pytest.mark.parametrize(
    ("size", "shortest", "longest", "expected"),
    [
        ((480, 640), 320, 2560, (320, 427)),
        ((640, 480), 320, 2560, (427, 320)),
        ((100, 1000), 640, 2560, (256, 2560)),
        ((683, 512), 512, 2048, (683, 512)),
    ],
)
def test_shortest_edge(size: tuple[int, int], shortest: int, longest: int, expected: tuple[int, int]) -> None:
    assert shortest_edge_size(size, shortest, longest) == expected


def test_segments_are_resized_by_the_nearest_pixel_centre() -> None:
    segments = disjoint_segments(np.arange(1, 5)[None], [1, 2, 3, 4], [0, 1, 2, 3])
    _, smaller = resize(np.zeros((1, 4, 3), np.uint8), segments, (1, 2))
    assert smaller.layers[0, 0].tolist() == [2, 4]  # centres at 1.0 and 3.0 belong to the pixel that begins there
    _, larger = resize(np.zeros((1, 4, 3), np.uint8), segments, (2, 8))
    assert larger.layers[0].tolist() == [[1, 1, 2, 2, 3, 3, 4, 4]] * 2


def test_label_maps_are_resized_by_the_pixel_at_the_corner() -> None:
    segments = replace(disjoint_segments(np.arange(1, 5)[None], [1, 2, 3, 4], [0, 1, 2, 3]), nearest="corner")
    _, smaller = resize(np.zeros((1, 4, 3), np.uint8), segments, (1, 2))
    assert smaller.layers[0, 0].tolist() == [1, 3]


def test_an_image_may_keep_its_shape() -> None:
    transform = build_mask_transform("shortest-edge", shortest=[40], longest=90)
    image, segments, size = transform(*scene(60, 120), np.random.default_rng(0))
    assert image.shape == (40, 80, 3) and segments.layers.shape == (1, 40, 80) and size == (40, 80)
    assert transform(*scene(20, 100), np.random.default_rng(0))[2] == (18, 90)  # the long side decides
    assert not transform.fixed_size and all(pipeline.fixed_size for pipeline in PIPELINES)


def test_hues_move_both_ways_to_the_last_degree() -> None:
    class Moved:
        """Changes nothing but the hue, by the given draw."""

        def __init__(self, largest: bool) -> None:
            self.draws, self.largest = iter([0.9, 0.1, 0.9, 0.9, 0.1]), largest

        def random(self) -> float:
            return next(self.draws)

        def integers(self, low: int, high: int, endpoint: bool = False) -> int:
            return (high if endpoint else high - 1) if self.largest else low

    red = np.full((1, 1, 3), (255, 0, 0), np.uint8)
    hues = {
        largest: int(cv2.cvtColor(color_jitter(red, Moved(largest)), cv2.COLOR_RGB2HSV)[0, 0, 0])  # type: ignore[arg-type]
        for largest in (True, False)
    }
    assert hues == {True: 18, False: 180 - 18}


def test_a_crop_of_one_class_is_drawn_again() -> None:
    mixed = {limit: 0 for limit in (1.0, 0.75)}
    for limit in mixed:
        crop = ShortestEdgeCrop(32, (128,), category_area=limit, color=False)
        for seed in range(40):
            _, masks = crop(*scene(128, 128), np.random.default_rng(seed))[1].targets()
            share = masks.sum(axis=(1, 2)).max() / masks.sum()
            mixed[limit] += share < 0.75
    assert mixed[1.0] < 12 and mixed[0.75] > 25


def test_colours_change_and_geometry_does_not() -> None:
    image, _ = scene(20, 30)
    image = image // 2 + 30
    changed = [color_jitter(image, np.random.default_rng(seed)) for seed in range(30)]
    assert len({other.tobytes() for other in changed}) > 20
    for other in changed:
        assert other.shape == image.shape and other.dtype == np.uint8
        halves = other[:, :15].reshape(-1, 3), other[:, 15:].reshape(-1, 3)
        assert all((half == half[0]).all() for half in halves)
        assert int(halves[0][0].sum()) > int(halves[1][0].sum())
    assert any((other == image).all() for other in (color_jitter(image, np.random.default_rng(s)) for s in range(200)))


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("nothing", {}, "unknown transform of segments 'nothing'"),
        ("fixed-square", {"size": 48}, "multiple of 32"),
        ("fixed-square", {"side": 64}, "has no argument 'side'"),
        ("fixed-square", {"size": "64"}, "'size' of transform 'fixed-square' is '64'"),
        ("shortest-edge-crop", {"size": 64, "shortest": []}, "shortest"),
        ("shortest-edge-crop", {"size": 64, "shortest": [64], "category_area": 0.0}, "category_area"),
        ("large-scale-jitter", {"size": 64, "scale": [2.0, 0.1]}, "scale"),
    ],
)
def test_what_cannot_be_built_is_named(name: str, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(MaskTransformError, match=message):
        build_mask_transform(name, **arguments)
