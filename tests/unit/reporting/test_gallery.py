"""Pictures of truth and prediction after every step."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from model.reporting.figures import save_figure
from model.reporting.gallery import (
    BACKGROUND_COLOR,
    FUTURE_COLOR,
    HATCH_COLOR,
    LARGEST_SIDE,
    OUTLINE_COLOR,
    VOID_COLOR,
    GalleryError,
    GalleryImage,
    gallery,
    prediction_picture,
    truth_picture,
)
from model.reporting.segment_shades import LINE_COLOR, shaded

COLORS = {1: (10, 20, 30), 5: (200, 0, 0), 9: (0, 0, 200)}
NAMES = {1: "sky", 5: "cat", 9: "dog"}
KNOWN = [(1,), (1, 9), (1, 9, 5)]
BACKGROUND, VOID = 0, 255


def labels(height: int = 40, width: int = 60) -> np.ndarray:
    made = np.full((height, width), 1, np.uint8)
    made[:, : width // 4] = BACKGROUND
    made[: height // 2, width // 2 :] = 5
    made[height // 2 :, width // 2 :] = 9
    made[0] = VOID
    return made


def colors_in(picture: np.ndarray, where: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(color) for color in picture[where].tolist()}


def test_future_classes_are_hatched() -> None:
    made = labels()
    picture = truth_picture(made, (1,), (9,), COLORS, BACKGROUND, VOID)
    assert colors_in(picture, made == 1) == {COLORS[1]}
    assert colors_in(picture, made == 9) == {COLORS[9], OUTLINE_COLOR}  # learnt in this step
    assert colors_in(picture, made == 5) == {FUTURE_COLOR, HATCH_COLOR}
    assert colors_in(picture, made == BACKGROUND) == {BACKGROUND_COLOR}
    assert colors_in(picture, made == VOID) == {VOID_COLOR}


def test_the_outline_follows_the_region() -> None:
    made = np.ones((30, 30), np.uint8)
    made[10:20, 10:20] = 9
    picture = truth_picture(made, (1,), (9,), COLORS)
    assert tuple(picture[10, 10]) == OUTLINE_COLOR
    assert tuple(picture[15, 15]) == COLORS[9]
    assert tuple(picture[9, 9]) == COLORS[1]


def test_nothing_is_outlined_at_the_base_step() -> None:
    made = np.ones((8, 8), np.uint8)
    made[2:6, 2:6] = 9
    assert colors_in(truth_picture(made, (), (1, 9), COLORS), made == 9) == {COLORS[9]}


def test_predictions_count_in_learning_order() -> None:
    picture = prediction_picture(np.array([[0, 1, 2, 3]]), (1, 9, 5), COLORS)
    assert picture[0].tolist() == [list(c) for c in (BACKGROUND_COLOR, COLORS[1], COLORS[9], COLORS[5])]
    with pytest.raises(GalleryError, match="position 4, but there are 3 classes"):
        prediction_picture(np.array([[4]]), (1, 9, 5), COLORS)


def image(name: str = "a", height: int = 40, width: int = 60, steps: int = 3) -> GalleryImage:
    rng = np.random.default_rng(0)
    predictions = [rng.integers(0, len(KNOWN[t]) + 1, (height, width)) for t in range(steps)]
    return GalleryImage(name, rng.integers(0, 256, (height, width, 3), np.uint8), labels(height, width), predictions)


def test_a_page_has_every_picture_and_a_legend(tmp_path: Path) -> None:
    page = gallery([image(), image("b", 60, 40)], KNOWN, COLORS, NAMES, "mib", BACKGROUND, VOID)
    assert len(page.axes) == 2 * (1 + 2 * 3)
    titles = [panel.get_title() for panel in page.axes if panel.get_title()]
    assert titles == 2 * ["image", "step 0", "step 1", "step 2"]  # the two images stand side by side
    legend = [text.get_text() for text in page.legends[0].get_texts()]
    assert legend[:3] == ["sky (step 0)", "dog (step 1)", "cat (step 2)"]
    assert "not learnt yet" in legend and "background" in legend
    save_figure(page, tmp_path / "page.png")
    drawn = cv2.imread(str(tmp_path / "page.png"))
    assert drawn is not None and len(np.unique(drawn.reshape(-1, 3), axis=0)) > 100


def test_pictures_on_the_page_are_those_of_each_step() -> None:
    shown = image()
    page = gallery([shown], KNOWN, COLORS, NAMES, background_id=BACKGROUND, void_id=VOID)
    drawn = [panel.images[0].get_array() for panel in page.axes]
    np.testing.assert_array_equal(drawn[0], shown.image)
    for t, (past, current) in enumerate([((), (1,)), ((1,), (9,)), ((1, 9), (5,))]):
        np.testing.assert_array_equal(
            drawn[1 + 2 * t], truth_picture(shown.labels, past, current, COLORS, BACKGROUND, VOID)
        )
        np.testing.assert_array_equal(drawn[2 + 2 * t], prediction_picture(shown.predictions[t], KNOWN[t], COLORS))


@pytest.mark.parametrize(("images", "steps"), [(2, 3), (3, 3), (4, 1), (6, 3), (2, 6), (4, 11)])
def test_pages_are_wider_than_tall(images: int, steps: int) -> None:
    known = [tuple(range(1, 2 + t)) for t in range(steps)]
    colors = {c: (c, c, c) for c in range(1, steps + 2)}
    made = np.ones((30, 40), np.uint8)
    shown = [
        GalleryImage(str(i), np.zeros((30, 40, 3), np.uint8), made, [np.zeros_like(made)] * steps)
        for i in range(images)
    ]
    width, height = gallery(shown, known, colors, {c: "x" for c in colors}).get_size_inches()
    assert width > height


def test_large_images_are_scaled_down() -> None:
    page = gallery([image("a", 500, 1000)], KNOWN, COLORS, NAMES)
    assert {panel.images[0].get_array().shape[:2] for panel in page.axes} == {(LARGEST_SIDE // 2, LARGEST_SIDE)}


def test_a_single_step_names_no_steps() -> None:
    made = image(steps=1)
    page = gallery([made], [(1, 9, 5)], COLORS, NAMES, column_titles=["joint"])
    legend = [text.get_text() for text in page.legends[0].get_texts()]
    assert "sky" in legend and "not learnt yet" not in legend
    assert "joint" in [panel.get_title() for panel in page.axes]


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ([], "no image"),
        ([image(steps=2)], "2 predictions for 3 steps"),
        (
            [GalleryImage("x", np.zeros((4, 4, 3), np.uint8), np.ones((4, 4), int), [np.zeros((4, 5), int)] * 3)],
            "differ in size",
        ),
    ],
)
def test_bad_input(images: list[GalleryImage], message: str) -> None:
    with pytest.raises(GalleryError, match=message):
        gallery(images, KNOWN, COLORS, NAMES)


def test_classes_without_a_colour_are_named() -> None:
    with pytest.raises(GalleryError, match="class 7 has no colour"):
        truth_picture(np.full((2, 2), 7), (), (7,), COLORS)


def test_segments_of_one_class_differ_in_shade_and_are_divided_by_a_line() -> None:
    classes = np.ones((12, 24), np.uint8)
    segments = np.repeat(np.array([[7, 9, 0]]), 8, axis=1).repeat(12, axis=0)
    picture = np.full((12, 24, 3), 100, np.uint8)
    drawn = shaded(picture, classes, segments)
    first, second, nothing = drawn[5, 3], drawn[5, 12], drawn[5, 20]
    assert tuple(first) == (100, 100, 100) == tuple(nothing)
    assert (second > first).all()
    assert tuple(drawn[5, 7]) == LINE_COLOR == tuple(drawn[5, 15])


def test_a_page_with_segments_draws_known_ones_only() -> None:
    truth = labels()
    ids = np.where(truth == 9, 4, np.where(truth == 5, 3, 0))
    guess = np.where(truth == 9, 2, 1)
    shown = GalleryImage("a", np.zeros((40, 60, 3), np.uint8), truth, [np.ones_like(guess), guess], ids, [ids, ids])
    plain = GalleryImage("a", shown.image, truth, shown.predictions)
    pages = [gallery([one], [(1,), (1, 9)], COLORS, NAMES, "title", BACKGROUND, VOID) for one in (shown, plain)]
    with_ids, without = ([np.asarray(axes.images[0].get_array()) for axes in page.axes] for page in pages)
    lines = [(panel == LINE_COLOR).all(axis=2) for panel in with_ids]
    assert not any((panel == LINE_COLOR).all(axis=2).any() for panel in without)
    assert not lines[1].any()  # truth of step 0, which knows neither of the two
    assert lines[3].any()  # truth of step 1
    assert lines[2].any() and lines[4].any()  # predictions


def test_segments_of_another_size_are_refused() -> None:
    shown = GalleryImage("a", np.zeros((40, 60, 3), np.uint8), labels(), [labels() * 0], np.zeros((4, 6), np.int32))
    with pytest.raises(GalleryError, match="differ in size"):
        gallery([shown], [(1,)], COLORS, NAMES)
