"""Class-proportional exemplar selection.

Source: BalConpas (ECCV 2024), released code. Exemplars are taken one by one so that the classes in the memory get the shares
that they have in all training data so far:

    i* = argmin_i ‖ (a + v_i) / Σ(a + v_i) − p ‖₁ ,   a ← a + v_i*

    a    (C,)     counts in the memory so far
    v_i  (C,)     counts in candidate i
    p    (C,)     shares of the classes in the training data, p = G / ΣG

The first of equally good candidates wins.

An image has few classes. With S = Σ(a + v_i) the cost is that of adding nothing, which depends on S alone, plus a correction
at the classes of the image. A pick therefore costs (number of distinct S) · C + (non-zero entries), not N · C. Candidates that
this puts within rounding of the minimum are compared once more by the formula above, so ties fall as in the plain double loop.

Verified against: d_memory, all cases.
"""

from __future__ import annotations

import numpy as np


class SelectionError(ValueError):
    """Candidates that cannot be selected from; the message names the problem."""


def select_class_proportional(
    counts: np.ndarray, training_counts: np.ndarray, number: int, start: np.ndarray | None = None
) -> list[int]:
    """Pick candidates greedily.

    Args:
        counts: (N, C) non-negative integers, what each candidate holds; earlier rows win ties.
        training_counts: (C,) non-negative integers, G: what all training data so far hold.
        number: how many to pick; all candidates if there are fewer.
        start: (C,) counts that the memory holds already; zeros by default.

    Returns:
        Row numbers in the order of picking.

    Raises:
        SelectionError: for negative or non-integer counts, an empty target, or a candidate without any annotation.
    """
    counts = _integers(counts, "counts of the candidates")
    target = _integers(training_counts, "counts of the training data")
    held = np.zeros_like(target) if start is None else _integers(start, "counts of the memory")
    if counts.ndim != 2 or target.shape != (counts.shape[1],) or held.shape != target.shape:
        raise SelectionError(f"shapes {counts.shape}, {target.shape} and {held.shape} do not belong together")
    if not target.any():
        raise SelectionError("the training data hold no annotation: there is nothing to be proportional to")
    if len(empty := np.flatnonzero(~counts.any(axis=1))):
        raise SelectionError(f"candidate {int(empty[0])} has no annotation and cannot be an exemplar")
    candidates = _Candidates(counts, target)
    picked: list[int] = []
    for _ in range(min(number, len(counts))):
        best = candidates.best(held)
        candidates.remove(best)
        held = held + counts[best]
        picked.append(best)
    return picked


class _Candidates:
    """Candidates in sparse form, with the costs of one pick computed for all of them at once."""

    def __init__(self, counts: np.ndarray, target: np.ndarray) -> None:
        self.counts, self.target = counts, target
        self.share = target / target.sum()
        rows, self.column = np.nonzero(counts)  # sorted by row
        self.value = counts[rows, self.column].astype(np.float64)
        self.first = np.searchsorted(rows, np.arange(len(counts)))  # where each row's entries begin
        self.entry_share = self.share[self.column]
        self.totals, self.kind = np.unique(counts.sum(axis=1), return_inverse=True)  # distinct totals, one kind per row
        self.entry_kind = self.kind[rows]
        self.taken = np.zeros(len(counts))
        self.before, self.after, self.scale = (np.empty(len(rows)) for _ in range(3))

    def remove(self, row: int) -> None:
        self.taken[row] = np.inf

    def best(self, held: np.ndarray) -> int:
        """The first of the cheapest candidates."""
        costs = self._costs(held.astype(np.float64))
        near = np.flatnonzero(costs <= costs.min() + 1e-9)  # far above the rounding of either formulation
        if len(near) == 1:
            return int(near[0])
        mixed = (held + self.counts[near]).astype(np.float64)
        exact = np.abs(mixed / mixed.sum(axis=1, keepdims=True) - self.share).sum(axis=1)
        return int(near[exact.argmin()])  # the first of the cheapest

    def _costs(self, held: np.ndarray) -> np.ndarray:
        """(N,) costs in floating point, infinite for candidates already taken."""
        inverse = 1.0 / (held.sum() + self.totals)
        idle = np.abs(held * inverse[:, None] - self.share).sum(axis=1)  # adding nothing, by distinct total
        np.take(inverse, self.entry_kind, out=self.scale)
        np.take(held, self.column, out=self.before)
        np.add(self.before, self.value, out=self.after)
        for term in (self.before, self.after):
            term *= self.scale
            term -= self.entry_share
            np.abs(term, out=term)
        self.after -= self.before
        return idle[self.kind] + np.add.reduceat(self.after, self.first) + self.taken


def _integers(values: np.ndarray, what: str) -> np.ndarray:
    array = np.asarray(values)
    if not np.issubdtype(array.dtype, np.integer) and not np.array_equal(array, np.floor(array)):
        raise SelectionError(f"{what} must be integers")
    array = array.astype(np.int64)
    if array.size and array.min() < 0:
        raise SelectionError(f"{what} must not be negative")
    return array
