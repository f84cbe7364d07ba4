"""Colour-blind readers can tell the classes of a gallery apart: simulated with the matrices of Machado et al. (2009)."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from model.reporting.class_colors import PALETTE, class_colors
from model.reporting.gallery import BACKGROUND_COLOR, FUTURE_COLOR, HATCH_COLOR, OUTLINE_COLOR, VOID_COLOR

SIGHT = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
GREYS = (BACKGROUND_COLOR, FUTURE_COLOR, HATCH_COLOR, OUTLINE_COLOR, VOID_COLOR)


def seen(colors: object, sight: str) -> np.ndarray:
    """(N, 3) CIELAB of colours as they look."""
    values = np.asarray(colors, float) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    looks = np.clip(linear @ np.asarray(SIGHT[sight]).T, 0, 1)
    gamma = np.where(looks <= 0.0031308, 12.92 * looks, 1.055 * looks ** (1 / 2.4) - 0.055)
    return cv2.cvtColor(gamma[None].astype(np.float32), cv2.COLOR_RGB2Lab)[0]


def nearest(colors: object, sight: str) -> float:
    points = seen(colors, sight)
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(points, 2))


@pytest.mark.parametrize("sight", SIGHT)
def test_classes_differ_whoever_looks(sight: str) -> None:
    assert nearest(PALETTE[:6], sight) > 25
    assert nearest(PALETTE[:10], sight) > 20  # as many classes as the embedded images have
    assert nearest(PALETTE, sight) > 12


@pytest.mark.parametrize("sight", SIGHT)
def test_no_class_looks_like_what_is_none(sight: str) -> None:
    greys, colors = seen(GREYS, sight), seen(PALETTE, sight)
    assert min(float(np.linalg.norm(grey - color)) for grey in greys for color in colors) > 12


def test_the_measure_finds_what_the_colour_blind_cannot_tell_apart() -> None:
    red, green = (200, 60, 40), (120, 120, 40)
    assert nearest([red, green], "normal") > 40 > 20 > nearest([red, green], "deuteranopia")


def test_classes_in_the_pictures_come_first_where_colours_are_scarce() -> None:
    many = list(range(150))
    found = class_colors(many, present=range(140, 150))
    assert len({found[c] for c in range(140, 150)}) == 10 and set(found) == set(many)
    few = list(range(len(PALETTE)))
    assert class_colors(few, present=[3]) == class_colors(few)  # a class keeps its colour in every picture
    assert len(set(class_colors(few).values())) == len(PALETTE) == len(set(PALETTE))
