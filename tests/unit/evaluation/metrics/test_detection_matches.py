"""Average precision of drawn images is that of images that were evaluated so often."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as rle

from model.evaluation.metrics.average_precision import AveragePrecision, average_precision, detection
from model.evaluation.metrics.detection_matches import DetectionMatches, MatchesError

IMAGES, SIZE, CLASSES = 4, 24, (7, 3)


def box(top: int, left: int, height: int, width: int) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    mask[top : top + height, left : left + width] = True
    return mask


def evaluated(seed: int, times: np.ndarray) -> AveragePrecision:
    """Random objects and detections; each image is there so many times, under numbers of its own."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    detections: list[dict[str, Any]] = []
    for image in range(IMAGES):
        for _ in range(int(times[image])):
            generator = np.random.default_rng([seed, image])
            number = len(images)
            images.append({"id": number, "height": SIZE, "width": SIZE})
            for _ in range(int(generator.integers(0, 4))):
                top, left = generator.integers(0, 12, 2)
                height, width = generator.integers(5, 12, 2)
                category = int(generator.choice([*CLASSES, 9]))
                mask = box(top, left, height, width)
                coded = rle.encode(np.asfortranarray(mask, np.uint8))
                annotations.append(
                    {
                        "image_id": number,
                        "category_id": category,
                        "area": int(mask.sum()),
                        "iscrowd": int(generator.random() < 0.2),
                        "segmentation": coded,
                    }
                )
                moved = box(top + int(generator.integers(0, 3)), left, height, width)
                if category != 9 and generator.random() < 0.8:
                    detections.append(detection(number, category, float(generator.random()), moved))
            wrong = box(*generator.integers(0, 12, 2), 6, 6)
            detections.append(detection(number, int(generator.choice(CLASSES)), float(generator.random()), wrong))
    return average_precision(images, annotations, detections, CLASSES)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    times=st.lists(st.integers(0, 3), min_size=IMAGES, max_size=IMAGES).filter(lambda t: sum(t) > 0),
)
def test_drawing_an_image_is_evaluating_it_so_often(seed: int, times: list[int]) -> None:
    drawn = np.array(times)
    once = evaluated(seed, np.ones(IMAGES, int))
    np.testing.assert_allclose(
        once.matches.class_precision(drawn), evaluated(seed, drawn).per_class()["AP"], atol=1e-12, equal_nan=True
    )


def test_some_class_is_found_in_part() -> None:
    found = [evaluated(seed, np.ones(IMAGES, int)).matches.class_precision(np.ones(IMAGES, int)) for seed in range(5)]
    assert ((np.array(found) > 0.01) & (np.array(found) < 0.99)).any()


def test_matches_are_stored_with_the_curves(tmp_path: Path) -> None:
    result = evaluated(1, np.ones(IMAGES, int))
    result.save(tmp_path / "counts.npz")
    stored = DetectionMatches.load(tmp_path / "counts.npz")
    for name, array in result.matches.arrays.items():
        np.testing.assert_array_equal(getattr(stored, name), array)


def test_a_file_without_matches_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "counts.npz", precision=np.zeros(1))
    with pytest.raises(MatchesError, match=r"counts\.npz does not tell images apart .*'objects'.*evaluate again"):
        DetectionMatches.load(tmp_path / "counts.npz")
