"""Counting pairs of label and predicted class, with every check, against a bare ``numpy.bincount``.

An image of 512 × 683 pixels and 150 classes. Labels are compact regions; the prediction is the labels moved by a few pixels
(``compact``), or a fifth of its pixels are random (``noisy``). The peer is given what Segue has to find out (that all values are
in range, and the row of each label) and counts ``label · classes + prediction``. Both must count the same, or the program fails.

    python benchmarks/confusion_counts.py --json results/confusion_counts.json
"""

from __future__ import annotations

import sys

import cv2
import numpy as np
from paired import compare, describe_machine, parser, write

from model.evaluation.metrics.confusion import ConfusionAccumulator

SIZE, CLASSES = (512, 683), 150


def made_up_maps(noise: float) -> tuple[np.ndarray, np.ndarray]:
    """Labels from 1 (H, W) uint8 and predicted positions from 1 (H, W) int64, as a network's arg-max gives them."""
    generator = np.random.default_rng(0)
    regions = generator.integers(1, CLASSES + 1, (12, 16)).astype(np.uint8)
    labels = cv2.resize(regions, SIZE[::-1], interpolation=cv2.INTER_NEAREST)
    prediction = np.roll(labels, (3, 5), axis=(0, 1)).astype(np.int64)
    wrong = generator.random(SIZE) < noise
    prediction[wrong] = generator.integers(1, CLASSES + 1, int(wrong.sum()))
    return labels, prediction


def bincount(labels: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """(K + 1, K + 1) counts."""
    size = CLASSES + 1
    return np.bincount(labels.ravel().astype(np.int64) * size + prediction.ravel(), minlength=size**2).reshape(
        size, size
    )


def main() -> None:
    """Check that both agree, then time them."""
    made = parser(__doc__, rounds=25)
    arguments = made.parse_args()
    cv2.setNumThreads(1)
    describe_machine()
    rows = []
    for name, noise in (("compact", 0.0), ("noisy", 0.2)):
        labels, prediction = made_up_maps(noise)
        counts = ConfusionAccumulator(range(1, CLASSES + 1), range(1, CLASSES + 1), background_id=0, void_id=255)
        counts.add(labels, prediction, has_seen_class=True)
        if not np.array_equal(counts.matrix().counts[0][:CLASSES], bincount(labels, prediction)[1:]):
            sys.exit(f"{name}: the two ways count differently")
        rows.append(
            compare(
                f"confusion counts of a {name} map of {SIZE[0]} x {SIZE[1]}, {CLASSES} classes",
                lambda labels=labels, prediction=prediction, counts=counts: counts.add(labels, prediction),
                lambda labels=labels, prediction=prediction: bincount(labels, prediction),
                peer_name="numpy.bincount",
                rounds=arguments.rounds,
                calls=10,
            )
        )
    write(rows, arguments.json)


if __name__ == "__main__":
    main()
