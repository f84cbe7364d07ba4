"""Class-proportional exemplar selection, against the released algorithm.

The data have the size of ADE20K's training set: 20,210 images, 150 classes with a long tail, about ten classes per image. Both
must choose the same images in the same order, or the program fails. What Segue prepares once counts less, the more are picked: a
memory of 300 takes the released algorithm a minute or two (``--picks 300 --rounds 2``).

    python benchmarks/memory_selection.py --json results/memory_selection.json
"""

from __future__ import annotations

import sys

import numpy as np
from paired import compare, describe_machine, parser, write

from model.memory.class_proportional import select_class_proportional


def made_up_counts(images: int, classes: int, seed: int) -> np.ndarray:
    """(N, C) segments of each class in each image: frequencies fall with the rank of a class, at least one per image."""
    generator = np.random.default_rng(seed)
    shares = 1.0 / np.arange(1, classes + 1)
    present = generator.random((images, classes)) < np.minimum(0.9, 2.0 * shares / shares.mean() * 0.04)
    counts = np.where(present, generator.geometric(0.5, (images, classes)), 0)
    counts[np.arange(images), generator.choice(classes, images, p=shares / shares.sum())] += 1
    return counts[:, generator.permutation(classes)]


def loop_over_images(counts: np.ndarray, training_counts: np.ndarray, number: int) -> list[int]:
    """As released: for every pick a loop over all candidates, with NumPy over the classes."""
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


def main() -> None:
    """Check that both choose alike, then time them."""
    made = parser(__doc__, rounds=3)
    made.add_argument("--images", type=int, default=20_210)
    made.add_argument("--classes", type=int, default=150)
    made.add_argument("--picks", type=int, default=50)
    arguments = made.parse_args()
    describe_machine()
    counts = made_up_counts(arguments.images, arguments.classes, seed=0)
    target = counts.sum(axis=0)
    ours = select_class_proportional(counts, target, arguments.picks)
    released = loop_over_images(counts, target, arguments.picks)
    if ours != released:
        place = next(k for k, (a, b) in enumerate(zip(ours, released, strict=True)) if a != b)
        sys.exit(f"pick {place} differs: image {ours[place]} and not {released[place]}")
    found = compare(
        f"{arguments.picks} of {arguments.images} images, {arguments.classes} classes",
        lambda: select_class_proportional(counts, target, arguments.picks),
        lambda: loop_over_images(counts, target, arguments.picks),
        peer_name="released algorithm",
        rounds=arguments.rounds,
        warm_up=0,
    )
    write([found], arguments.json)


if __name__ == "__main__":
    main()
