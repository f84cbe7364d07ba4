"""Class-balanced exemplar selection.

Source: SSUL-M (NeurIPS 2021), released code; also used by DKD-M and STAR-M. Candidates are shuffled, then the classes; going
round the classes, each time the first remaining candidate that contains the class becomes an exemplar, until the memory is full.

Verified against: g_ssul/memory_plain, g_ssul/memory_unknown.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np


class Shuffler(Protocol):
    """``numpy.random.Generator``, or the legacy ``RandomState`` that the released code draws from."""

    def shuffle(self, x: list[int]) -> None:
        """Reorder a list in place."""


def select_class_balanced(presence: np.ndarray, number: int, generator: Shuffler) -> list[int]:
    """Pick candidates class by class.

    Args:
        presence: (N, C) bool or counts, which classes each candidate contains.
        number: how many to pick; fewer if the candidates with any class run out.
        generator: source of the two shuffles.

    Returns:
        Row numbers in the order of picking.
    """
    present = np.asarray(presence) > 0
    candidates, classes = list(range(present.shape[0])), list(range(present.shape[1]))
    generator.shuffle(candidates)
    generator.shuffle(classes)
    queues = [iter([row for row in candidates if present[row, column]]) for column in classes]
    picked: dict[int, None] = {}
    while queues and len(picked) < number:
        remaining = []
        for queue in queues:
            row = next((row for row in queue if row not in picked), None)
            if row is None:
                continue  # no candidate left for this class
            picked[row] = None
            remaining.append(queue)
            if len(picked) == number:
                break
        queues = remaining
    return list(picked)
