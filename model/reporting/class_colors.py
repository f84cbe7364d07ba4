"""Colours of classes that colour-blind readers can tell apart, for pictures that are looked at side by side.

Each colour was chosen to be as far as possible, in CIELAB, from those before it and from the greys of the pictures, as people
with normal sight, protanopia, deuteranopia and tritanopia see it (Machado et al., "A Physiologically-based Model for Simulation
of Color Vision Deficiency", IEEE TVCG 2009). The first ten differ clearly; the differences shrink as more classes are shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Color = tuple[int, int, int]

PALETTE: tuple[Color, ...] = (
    *((0, 114, 178), (255, 120, 15), (165, 0, 255), (120, 60, 0), (150, 255, 150), (180, 135, 90)),
    *((255, 90, 255), (60, 45, 165), (90, 30, 105), (255, 180, 255), (240, 225, 0), (240, 165, 90)),
    *((165, 45, 105), (150, 210, 150), (225, 75, 30), (90, 165, 195), (135, 75, 225), (60, 105, 60)),
    *((195, 255, 105), (180, 105, 105), (150, 105, 150), (90, 0, 195), (150, 45, 150), (105, 255, 195)),
)


def class_colors(categories: Sequence[int], present: Iterable[int] = ()) -> dict[int, Color]:
    """A colour for each class.

    Where there are more classes than colours, those of ``present`` get different ones, as far as they suffice, and the others
    repeat them.

    Args:
        categories: every category id of the dataset, in the order of its table.
        present: those that are in the pictures.
    """
    if len(categories) > len(PALETTE):
        shown = set(present)
        categories = sorted(categories, key=lambda category: category not in shown)  # stable
    return {category: PALETTE[place % len(PALETTE)] for place, category in enumerate(categories)}
