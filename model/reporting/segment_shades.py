"""Segments in pictures: instances of a class in shades of its colour, and a line between any two segments."""

from __future__ import annotations

import numpy as np

SHADES = (0.0, 0.45, -0.35, 0.25, -0.18)
"""Share of white (above 0) or black (below 0) mixed into the first, second, … segment of a class, repeating."""
LINE_COLOR = (15, 15, 15)


def shaded(picture: np.ndarray, classes: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """A picture of classes in which the segments can be told apart.

    Args:
        picture: (H, W, 3) uint8.
        classes: (H, W) class of each pixel, in any numbering.
        segments: (H, W) segment ids, 0 = none; pixels without one are left as they are.

    Returns:
        (H, W, 3) uint8.
    """
    changed = picture.astype(np.float32)
    for category in np.unique(classes[segments > 0]).tolist():
        members = np.unique(segments[(classes == category) & (segments > 0)]).tolist()
        for rank, member in enumerate(members):
            where = (segments == member) & (classes == category)
            share = SHADES[rank % len(SHADES)]
            changed[where] += abs(share) * ((255.0 if share > 0 else 0.0) - changed[where])
    changed[boundaries(segments)] = LINE_COLOR
    return np.rint(changed).astype(np.uint8)


def boundaries(segments: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels whose right or lower neighbour belongs to another segment."""
    different = np.zeros(segments.shape, dtype=bool)
    different[:, :-1] |= segments[:, :-1] != segments[:, 1:]
    different[:-1] |= segments[:-1] != segments[1:]
    return different
