"""Class-proportional exemplar selection against the plain loops that define it.

The data have the size of ADE20K's training set: 20,210 images, 150 classes with a long tail, about ten classes per image; 300
exemplars are picked. All must choose the same images in the same order, or the program fails.

    python benchmarks/memory_selection.py --json results/memory_selection.json
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model.memory.class_proportional import select_class_proportional


def made_up_counts(images: int, classes: int, seed: int) -> np.ndarray:
    """(N, C) segments of each class in each image: frequencies fall with the rank of a class, at least one per image."""
    generator = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, classes + 1)
    present = generator.random((images, classes)) < np.minimum(0.9, 2.0 * shares / shares.mean() * 0.04)
    counts = np.where(present, generator.geometric(0.5, (images, classes)), 0)
    counts[np.arange(images), generator.choice(classes, images, p=shares / shares.sum())] += 1
    return counts[:, generator.permutation(classes)]


def nested_loops(counts: np.ndarray, training_counts: np.ndarray, number: int) -> list[int]:
    """The formula taken literally: for every pick, for every candidate, for every class."""
    rows, totals = counts.tolist(), counts.sum(axis=1).tolist()
    share = (training_counts / training_counts.sum()).tolist()
    held, held_total = [0] * len(share), 0
    picked: list[int] = []
    taken = [False] * len(rows)
    for _ in range(number):
        best, lowest = -1, float("inf")
        for row, values in enumerate(rows):
            if taken[row]:
                continue
            total = held_total + totals[row]
            cost = 0.0
            for before, value, wanted in zip(held, values, share, strict=True):
                difference = (before + value) / total - wanted
                cost += difference if difference > 0 else -difference
            if cost < lowest:
                best, lowest = row, cost
        picked.append(best)
        taken[best] = True
        held = [before + value for before, value in zip(held, rows[best], strict=True)]
        held_total += totals[best]
    return picked


def loop_over_images(counts: np.ndarray, training_counts: np.ndarray, number: int) -> list[int]:
    """The same with NumPy for the classes: for every pick, for every candidate."""
    share = training_counts / training_counts.sum()
    held = np.zeros(counts.shape[1])
    picked: list[int] = []
    taken = set[int]()
    for _ in range(number):
        best, lowest = -1, np.inf
        for row in range(len(counts)):
            if row in taken:
                continue
            mixed = held + counts[row]
            cost = np.abs(mixed / mixed.sum() - share).sum()
            if cost < lowest:
                best, lowest = row, cost
        picked.append(best)
        taken.add(best)
        held = held + counts[best]
    return picked


BASELINES = {"loops over images and classes": nested_loops, "loop over images, NumPy over classes": loop_over_images}


def main() -> None:
    """Parse the command line, measure both and compare their choices."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the measurement to this file")
    parser.add_argument("--images", type=int, default=20_210)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--picks", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=3, help="of ours; the fastest counts. The loops run once")
    arguments = parser.parse_args()
    counts = made_up_counts(arguments.images, arguments.classes, seed=0)
    target = counts.sum(axis=0)
    seconds = []
    for _ in range(arguments.repeats):
        start = time.process_time()
        ours = select_class_proportional(counts, target, arguments.picks)
        seconds.append(time.process_time() - start)
    rows = []
    for name, select in BASELINES.items():
        start = time.process_time()
        baseline = select(counts, target, arguments.picks)
        loop_seconds = time.process_time() - start
        if ours != baseline:
            place = next(k for k, (a, b) in enumerate(zip(ours, baseline, strict=True)) if a != b)
            sys.exit(f"{name}: pick {place} differs: image {ours[place]} and not {baseline[place]}")
        case = f"{arguments.picks} of {arguments.images} images, {arguments.classes} classes, {name}"
        row = {"case": case, "ours": min(seconds), "baseline": loop_seconds, "ratio": loop_seconds / min(seconds)}
        rows.append(row)
        print(
            f"{case}: ours {row['ours']:.3f} s, they {row['baseline']:.1f} s of CPU time, "
            f"{row['ratio']:.0f} times faster; the same images",
            flush=True,
        )
    if arguments.json is not None:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
