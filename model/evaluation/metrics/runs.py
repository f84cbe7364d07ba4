"""Label maps as runs of equal pixels along their rows: a few thousand runs stand for a few hundred thousand pixels."""

from __future__ import annotations

import numpy as np


def runs_of_pairs(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Runs of pixels that have the same value in each of two maps; one may go on in the next row.

    Args:
        first, second: (H, W), not empty.

    Returns:
        Value of each run in the first map, value in the second, and length, each (R,).
    """
    a, b = np.ascontiguousarray(first).ravel(), np.ascontiguousarray(second).ravel()
    starts = np.concatenate([[0], np.flatnonzero(_changes(a, b)) + 1])
    return a[starts], b[starts], np.diff(starts, append=len(a))


def has_long_runs(first: np.ndarray, second: np.ndarray, shortest: int, every: int = 16) -> bool:
    """Whether runs of pairs are longer than ``shortest`` on average, judged by every sixteenth row."""
    rows = first[::every], second[::every]
    return int(np.count_nonzero(_changes(*rows))) * shortest < rows[0].size


def _changes(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    change: np.ndarray = a[..., 1:] != a[..., :-1]
    change |= b[..., 1:] != b[..., :-1]
    return change
