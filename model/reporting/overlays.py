"""A photograph with its prediction drawn over it, and a legend of the classes in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from model.reporting.escaping import figure_text
from model.reporting.gallery import GalleryError, prediction_picture
from model.reporting.segment_shades import shaded

OPACITY = 0.55
"""Of the classes' colours over the photograph."""
LARGEST_SIDE = 1280
"""Larger photographs are scaled down to this before drawing, in pixels."""
SMALLEST_WIDTH = 450
"""Narrower photographs are enlarged to a multiple that is as wide as this, a legend of two columns."""
_DOTS = 150
"""Of :func:`model.reporting.figures.save_figure`, an inch: a pixel of the photograph is a dot of the picture."""


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    seen: Sequence[int],
    colors: Mapping[int, tuple[int, int, int]],
    ids: np.ndarray | None = None,
) -> np.ndarray:
    """The photograph under the colours of the predicted classes; what has no class stays as it is.

    Args:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) positions, 0 = background or nothing, k = k-th of ``seen``.
        seen: category ids learnt so far, in learning order.
        colors: category id → RGB.
        ids: (H, W) segment ids, 0 = none; the segments of a class get shades of its colour.

    Returns:
        (H, W, 3) uint8.

    Raises:
        GalleryError: if the sizes differ, or for a position that the step does not know.
    """
    if image.shape[:2] != labels.shape:
        raise GalleryError(f"the image is {image.shape[:2]}, its prediction {labels.shape}")
    drawn = prediction_picture(labels, seen, colors)
    if ids is not None:
        drawn = shaded(drawn, labels, ids)
    mixed = np.rint((1 - OPACITY) * image.astype(np.float32) + OPACITY * drawn).astype(np.uint8)
    return np.where((labels > 0)[..., None], mixed, image)


def overlay_page(
    image: np.ndarray,
    labels: np.ndarray,
    seen: Sequence[int],
    colors: Mapping[int, tuple[int, int, int]],
    names: Mapping[int, str],
    ids: np.ndarray | None = None,
    background: bool = False,
) -> Figure:
    """:func:`overlay` above a legend of the classes that occur, the largest first, what has no class last.

    Args:
        image, labels, seen, colors, ids: of :func:`overlay`.
        names: category id → class name.
        background: whether pixels without a class are the background, rather than nothing.
    """
    factor = min(-(-SMALLEST_WIDTH // image.shape[1]), LARGEST_SIDE / max(image.shape[:2]))
    if factor != 1:
        size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
        labels = cv2.resize(labels.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
        ids = None if ids is None else cv2.resize(ids.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)
    drawn = overlay(image, labels, seen, colors, ids)
    positions, counts = np.unique(labels, return_counts=True)
    order = [position for _, position in sorted(zip((-counts).tolist(), positions.tolist(), strict=True))]
    patches = [_patch(colors[seen[p - 1]], figure_text(names[seen[p - 1]])) for p in order if p]
    if 0 in order:  # drawn as it is, without a colour
        patches.append(Patch(fill=False, edgecolor="0.6", label="background" if background else "nothing"))
    height, width = (side / _DOTS for side in drawn.shape[:2])
    whole = max(width, SMALLEST_WIDTH / _DOTS)
    columns = max(1, int(whole // 1.5))
    legend = 0.16 * -(-len(patches) // columns) + 0.12
    figure = Figure(figsize=(whole, height + legend))
    FigureCanvasAgg(figure)
    share = height / (height + legend)
    panel = figure.add_axes(((1 - width / whole) / 2, 1 - share, width / whole, share))
    panel.imshow(drawn, interpolation="nearest", aspect="auto")
    panel.set_axis_off()
    middle = 0.5, (1 - share) / 2
    figure.legend(handles=patches, loc="center", bbox_to_anchor=middle, ncols=columns, frameon=False, fontsize=7)
    return figure


def _patch(color: tuple[int, int, int], label: str) -> Patch:
    return Patch(facecolor=(color[0] / 255, color[1] / 255, color[2] / 255), label=label)
