"""What is kept of an image for the gallery: arrays named ``KIND/image id``.

image                 (H, W, 3) uint8 RGB
labels                (H, W) category ids of the ground truth
prediction            (H, W) positions, 0 = background or nothing
label_segments        (H, W) segment ids of the ground truth, where the task has segments
prediction_segments   the same for the prediction
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from model.data.prepared.dataset import PreparedDataset

UNLABELLED = 65535
"""Means "nothing" in datasets that have neither background nor void; no category can have this id."""


def nothing(dataset: PreparedDataset) -> int:
    """The label of pixels without a segment."""
    for label in (dataset.background_id, dataset.void_id):
        if label is not None:
            return label
    return UNLABELLED


def pixel_picture(name: str, image: np.ndarray, labels: np.ndarray, prediction: np.ndarray) -> dict[str, np.ndarray]:
    """An image with a predicted label map."""
    positions = prediction.astype(np.uint8 if prediction.max(initial=0) < 256 else np.uint16)
    return {f"image/{name}": image, f"labels/{name}": labels, f"prediction/{name}": positions}


def segment_picture(
    name: str,
    image: np.ndarray,
    truth: np.ndarray,
    true_categories: Iterable[tuple[int, int]],
    prediction: np.ndarray,
    predicted_positions: Iterable[tuple[int, int]],
    nothing: int,
) -> dict[str, np.ndarray]:
    """An image with predicted segments.

    Args:
        name: image id.
        image: (H, W, 3) uint8 RGB.
        truth: (H, W) true segment ids, 0 = none.
        true_categories: (segment id, category id).
        prediction: (H, W) predicted segment ids, 0 = none.
        predicted_positions: (segment id, position from 1).
        nothing: category id of pixels without a true segment.
    """
    labels = _painted(truth, true_categories, nothing)
    positions = _painted(prediction, predicted_positions, 0)
    return pixel_picture(name, image, labels, positions) | {
        f"label_segments/{name}": truth.astype(np.int32),
        f"prediction_segments/{name}": prediction.astype(np.int32),
    }


def _painted(ids: np.ndarray, values: Iterable[tuple[int, int]], otherwise: int) -> np.ndarray:
    painted = np.full(ids.shape, otherwise, dtype=np.uint16)
    for number, value in values:
        painted[ids == number] = value
    return painted
