"""Uniform exemplar selection: the baseline that every selection rule has to beat."""

from __future__ import annotations

import numpy as np


def select_random(candidates: int, number: int, generator: np.random.Generator) -> list[int]:
    """Pick without replacement.

    Args:
        candidates: how many there are.
        number: how many to pick; all candidates if there are fewer.
        generator: source of the permutation.

    Returns:
        Row numbers in the order of picking.
    """
    return [int(row) for row in generator.permutation(candidates)[:number]]
