"""Lookup tables from raw category ids to what a network counts in.

Label maps on disk are never rewritten: steps, settings and families of methods differ only in the table that is applied
while loading.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

import cv2
import numpy as np

VoidInTraining = Literal["ignore", "background"]

IGNORE = 255
"""Label of pixels that no loss and no metric uses."""
MOST_CLASSES = IGNORE - 1
"""As many classes as a label map of a per-pixel network can hold, beside the background and what is ignored."""


class LabelError(ValueError):
    """Classes that do not fit the label maps; the message names them."""


def pixel_lookup(
    categories: Sequence[int],
    seen: Sequence[int],
    visible: Collection[int],
    background_id: int | None,
    void_id: int | None,
    void_in_training: VoidInTraining = "ignore",
) -> np.ndarray:
    """Table of the per-pixel family: 0 is background, position k is the k-th class learnt.

    Args:
        categories: every category id of the dataset.
        seen: ids known after the step, in learning order (``Step.seen``).
        visible: ids whose labels may be used; all other categories become background.
        background_id: raw label of pixels without a class, becomes 0.
        void_id: raw label of pixels that are never evaluated.
        void_in_training: whether void pixels are ignored (255: PLOP, SSUL, …) or become background (MiB, SDR).

    Returns:
        (256,) or (65536,) uint8, indexed by raw label. Values that the dataset does not use are 255.

    Raises:
        LabelError: for unknown or invisible classes, or more classes than 8 bits hold.
    """
    if len(seen) > MOST_CLASSES:
        raise LabelError(f"{len(seen)} classes do not fit a per-pixel label map, which ends at {MOST_CLASSES}")
    table = _empty_table(categories, background_id, void_id)
    _check_classes(categories, seen, visible)
    table[list(categories)] = 0
    if background_id is not None:
        table[background_id] = 0
    if void_id is not None:
        table[void_id] = IGNORE if void_in_training == "ignore" else 0
    for position, category in enumerate(seen, start=1):
        if category in visible:
            table[category] = position
    return table


def row_lookup(categories: Sequence[int], background_id: int | None, void_id: int | None) -> np.ndarray:
    """Table of the evaluation: raw label to row of the confusion matrix.

    Rows are all categories in table order, then background, then void. Values that the dataset does not use are void.

    Returns:
        (256,) or (65536,) uint16.
    """
    table = _empty_table(categories, background_id, void_id).astype(np.uint16)
    table[:] = len(categories) + 1
    table[list(categories)] = np.arange(len(categories))
    if background_id is not None:
        table[background_id] = len(categories)
    return table


def apply_lookup(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Replace every raw label by its table entry.

    Args:
        labels: (H, W) uint8 or uint16.
        table: from one of the functions above.

    Returns:
        (H, W) in the table's type.

    Raises:
        LabelError: if 16-bit labels exceed a table for 8-bit ones.
    """
    if labels.dtype == np.uint8 and table.dtype == np.uint8:
        return cv2.LUT(labels, table[:256])
    if labels.size and int(labels.max()) >= len(table):
        raise LabelError(f"label {int(labels.max())} is beyond the class table, which ends at {len(table) - 1}")
    return table[labels]


def _empty_table(categories: Sequence[int], background_id: int | None, void_id: int | None) -> np.ndarray:
    used = [*categories, *(label for label in (background_id, void_id) if label is not None)]
    if not used or min(used) < 0 or max(used) > 65535:
        raise LabelError(f"category ids must be within 0…65535, got {sorted(used)[:1]}…{sorted(used)[-1:]}")
    if len(set(used)) != len(used):
        raise LabelError("a label has two meanings (category, background or void)")
    return np.full(256 if max(used) < 256 else 65536, IGNORE, dtype=np.uint8)


def _check_classes(categories: Sequence[int], seen: Sequence[int], visible: Collection[int]) -> None:
    if unknown := sorted(set(seen) - set(categories)):
        raise LabelError(f"classes {unknown} are not in the dataset's class table")
    if len(set(seen)) != len(seen):
        raise LabelError("a class is learnt twice")
    if hidden := sorted(set(visible) - set(seen)):
        raise LabelError(f"classes {hidden} are visible but not learnt up to this step")
