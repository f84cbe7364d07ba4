"""Photographs under the colours of their predicted classes."""

from __future__ import annotations

import numpy as np
import pytest

from model.reporting.escaping import figure_text
from model.reporting.gallery import GalleryError
from model.reporting.overlays import LARGEST_SIDE, OPACITY, overlay, overlay_page

COLORS = {1: (250, 0, 0), 5: (0, 0, 250)}
NAMES = {1: "sky", 5: "a $cat"}


def photograph(height: int = 40, width: int = 60) -> np.ndarray:
    return np.full((height, width, 3), 100, np.uint8)


def halves(height: int = 40, width: int = 60) -> np.ndarray:
    labels = np.zeros((height, width), np.int64)
    labels[:, width // 3 :] = 2
    labels[:, -5:] = 1
    return labels


def test_classes_are_mixed_in_and_nothing_is_left_alone() -> None:
    drawn = overlay(photograph(), halves(), (1, 5), COLORS)
    assert (drawn[:, :20] == 100).all()
    for columns, color in ((slice(20, 55), COLORS[5]), (slice(55, 60), COLORS[1])):
        expected = np.rint((1 - OPACITY) * 100 + OPACITY * np.array(color))
        assert (np.abs(drawn[:, columns] - expected) <= 1).all()


def test_segments_of_a_class_differ() -> None:
    ids = np.where(halves() == 2, 1, 0)
    ids[:20][halves()[:20] == 2] = 2
    drawn = overlay(photograph(), halves(), (1, 5), COLORS, ids)
    assert tuple(drawn[5, 30]) != tuple(drawn[35, 30])


def test_the_legend_names_what_is_in_the_picture_the_largest_first() -> None:
    page = overlay_page(photograph(), halves(), (1, 5), COLORS, NAMES, background=True)
    assert [text.get_text() for text in page.legends[0].get_texts()] == [figure_text(NAMES[5]), "sky", "background"]
    only = overlay_page(photograph(), np.ones((40, 60), int), (1, 5), COLORS, NAMES)
    assert [text.get_text() for text in only.legends[0].get_texts()] == ["sky"]


def test_what_has_no_class_has_no_colour_in_the_legend_either() -> None:
    page = overlay_page(photograph(), halves(), (1, 5), COLORS, NAMES)
    cat, sky, nothing = page.legends[0].get_patches()
    assert nothing.get_label() == "nothing" and not nothing.get_fill()
    assert cat.get_facecolor()[:3] == (0, 0, 250 / 255) and sky.get_facecolor()[:3] == (250 / 255, 0, 0)


def test_the_legend_stands_below_the_photograph() -> None:
    for width in (30, 600):
        page = overlay_page(photograph(40, width), halves(40, width), (1, 5), COLORS, NAMES)
        page.canvas.draw()
        legend, picture = page.legends[0].get_window_extent(), page.axes[0].get_window_extent()
        assert legend.y0 >= 0 and legend.y1 <= picture.y0
        assert legend.x0 >= 0 and legend.x1 <= page.bbox.width


def test_small_photographs_are_enlarged_to_the_width_of_a_legend() -> None:
    page = overlay_page(photograph(20, 60), halves(20, 60), (1, 5), COLORS, NAMES)
    drawn = page.axes[0].images[0].get_array()
    assert drawn.shape[:2] == (160, 480)
    assert (drawn[:, :159] == 100).all() and not (drawn[:, 161:] == 100).all(axis=-1).any()


def test_large_photographs_are_scaled_down() -> None:
    page = overlay_page(photograph(20, 2 * LARGEST_SIDE), halves(20, 2 * LARGEST_SIDE), (1, 5), COLORS, NAMES)
    assert page.axes[0].images[0].get_array().shape[:2] == (10, LARGEST_SIDE)


def test_sizes_that_differ_are_refused() -> None:
    with pytest.raises(GalleryError, match="its prediction"):
        overlay(photograph(), halves(30), (1, 5), COLORS)
