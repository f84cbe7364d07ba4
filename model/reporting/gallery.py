"""Pictures: an image, its ground truth as each step may see it, and the prediction after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from model.reporting.escaping import figure_text
from model.reporting.segment_shades import shaded

BACKGROUND_COLOR = (48, 48, 48)
VOID_COLOR = (255, 255, 255)
FUTURE_COLOR, HATCH_COLOR = (205, 205, 205), (150, 150, 150)
OUTLINE_COLOR = (255, 255, 255)
LARGEST_SIDE = 320
"""Larger images are scaled down to this before drawing, in pixels."""


_CELL = 1.6
"""Width of a picture on the page, in inches."""
_ASPECT = 1.4
"""A page is at least so many times as wide as it is tall, as far as its images allow."""


class GalleryError(ValueError):
    """Pictures that do not fit each other or the class table."""


@dataclass(frozen=True)
class GalleryImage:
    """One image with its predictions.

    Attributes:
        name: image id.
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) raw category ids.
        predictions: one (H, W) map of positions per step, 0 = background.
        label_segments: (H, W) segment ids of the ground truth, 0 = none; None where the task has no segments.
        prediction_segments: the same for each prediction.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    predictions: Sequence[np.ndarray]
    label_segments: np.ndarray | None = None
    prediction_segments: Sequence[np.ndarray] | None = None

    @property
    def maps(self) -> tuple[np.ndarray, ...]:
        """Every map, in the order of the fields."""
        of_truth = () if self.label_segments is None else (self.label_segments,)
        return (self.labels, *self.predictions, *of_truth, *(self.prediction_segments or ()))


def truth_picture(
    labels: np.ndarray,
    past: Sequence[int],
    current: Sequence[int],
    colors: Mapping[int, tuple[int, int, int]],
    background_id: int | None = None,
    void_id: int | None = None,
) -> np.ndarray:
    """Ground truth after a step: learnt classes in their colour, future ones grey and hatched.

    The classes of an increment are outlined; at the base step, where everything is new, nothing is.

    Args:
        labels: (H, W) raw category ids.
        past, current: category ids learnt before and in this step.
        colors: category id → RGB.
        background_id, void_id: raw labels of background and of pixels that are never evaluated.

    Returns:
        (H, W, 3) uint8.
    """
    known = set(past) | set(current)
    picture = np.empty((*labels.shape, 3), np.uint8)
    future = np.zeros(labels.shape, bool)
    for label in np.unique(labels).tolist():
        where = labels == label
        if label == void_id:
            picture[where] = VOID_COLOR
        elif label == background_id:
            picture[where] = BACKGROUND_COLOR
        elif label in known:
            picture[where] = _color_of(label, colors)
        else:
            future |= where
    rows, columns = np.indices(labels.shape)
    period = max(4, min(labels.shape) // 16)
    stripes = (rows + columns) % period < max(1, period // 4)
    picture[future] = FUTURE_COLOR
    picture[future & stripes] = HATCH_COLOR
    return _outlined(picture, labels, current) if past else picture


def prediction_picture(
    prediction: np.ndarray, seen: Sequence[int], colors: Mapping[int, tuple[int, int, int]]
) -> np.ndarray:
    """Prediction after a step in the classes' colours.

    Args:
        prediction: (H, W) positions, 0 = background, k = k-th of ``seen``.
        seen: category ids learnt so far, in learning order.
        colors: category id → RGB.

    Raises:
        GalleryError: for a position that the step does not know.
    """
    if prediction.size and (prediction.min() < 0 or prediction.max() > len(seen)):
        raise GalleryError(f"the prediction holds position {prediction.max()}, but there are {len(seen)} classes")
    table = np.array([BACKGROUND_COLOR, *(_color_of(category, colors) for category in seen)], np.uint8)
    return table[prediction]


def gallery(
    images: Sequence[GalleryImage],
    known_after: Sequence[Sequence[int]],
    colors: Mapping[int, tuple[int, int, int]],
    names: Mapping[int, str],
    title: str = "",
    background_id: int | None = None,
    void_id: int | None = None,
    column_titles: Sequence[str] | None = None,
) -> Figure:
    """A page of images: for each the photograph, with the ground truth of every step above the prediction after it.

    Args:
        images: what to show, with one prediction per step.
        known_after: category ids known after each step, in learning order; each begins with the one before.
        colors: category id → RGB.
        names: category id → class name.
        title: at the top of the page, e.g. the method.
        background_id, void_id: raw labels of background and of pixels that are never evaluated.
        column_titles: one per step; "step 0", "step 1", … by default.

    Raises:
        GalleryError: if there is nothing to show, an image lacks a step, or shapes differ.
    """
    if not images or not known_after:
        raise GalleryError("there is no image or no step to show")
    steps = [
        (known_after[t - 1] if t else (), known_after[t][len(known_after[t - 1]) if t else 0 :])
        for t in range(len(known_after))
    ]
    titles = list(column_titles or [f"step {t}" for t in range(len(steps))])
    for shown in images:
        if len(shown.predictions) != len(steps):
            raise GalleryError(f"image '{shown.name}' has {len(shown.predictions)} predictions for {len(steps)} steps")
        if any(drawn.shape != shown.image.shape[:2] for drawn in shown.maps):
            raise GalleryError(f"image '{shown.name}': image, labels and predictions differ in size")

    shrunk = [_shrunk(shown) for shown in images]
    heights = [_CELL * min(1.5, shown.labels.shape[0] / shown.labels.shape[1]) for shown in shrunk]
    across = _images_across(heights, len(steps) + 1)
    lines = [heights[start : start + across] for start in range(0, len(heights), across)]
    present = {label for shown in images for label in np.unique(shown.labels).tolist()}
    present |= {
        known_after[t][p - 1] for shown in images for t, m in enumerate(shown.predictions) for p in np.unique(m) if p
    }
    order = [category for category in known_after[-1] if category in present]
    width = across * (_CELL * (len(steps) + 1) + 0.5)
    per_line = max(1, int(width // 1.9))
    legend_height = 0.25 * (-(-(len(order) + 3) // per_line)) + 0.3
    height = 2 * sum(map(max, lines)) + 0.12 * len(lines) + legend_height + 0.8
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    ratios = [ratio for line in lines for ratio in (max(line), max(line))]
    columns = len(steps) + 1
    cells = figure.add_gridspec(2 * len(lines), across * columns, height_ratios=ratios, wspace=0.02, hspace=0.02)
    for number, shown in enumerate(shrunk):
        row, left = number // across, number % across * columns
        panel = figure.add_subplot(cells[2 * row : 2 * row + 2, left])
        panel.imshow(shown.image)
        panel.set_axis_off()
        if row == 0:
            panel.set_title("image", fontsize=9)
        for t, (past, current) in enumerate(steps):
            above = figure.add_subplot(cells[2 * row, left + t + 1])
            truth = truth_picture(shown.labels, past, current, colors, background_id, void_id)
            if shown.label_segments is not None:
                learnt = np.isin(shown.labels, known_after[t])
                truth = shaded(truth, shown.labels, np.where(learnt, shown.label_segments, 0))
            above.imshow(truth, interpolation="nearest")
            below = figure.add_subplot(cells[2 * row + 1, left + t + 1])
            predicted = prediction_picture(shown.predictions[t], known_after[t], colors)
            if shown.prediction_segments is not None:
                predicted = shaded(predicted, shown.predictions[t], shown.prediction_segments[t])
            below.imshow(predicted, interpolation="nearest")
            for panel, label in ((above, "truth"), (below, "prediction")):
                panel.set(xticks=[], yticks=[])
                panel.spines[:].set_visible(False)
                if t == 0:
                    panel.set_ylabel(label, fontsize=8)
            if row == 0:
                above.set_title(titles[t], fontsize=9)
    figure.legend(
        handles=_legend(order, steps, colors, names, background=background_id is not None),
        loc="outside lower center",
        ncols=per_line,
        frameon=False,
        fontsize=8,
    )
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def _images_across(heights: Sequence[float], columns: int) -> int:
    """How many images stand side by side, so that the page is wider than it is tall.

    Args:
        heights: of one cell of each image, in inches.
        columns: cells of an image.
    """
    for across in range(1, len(heights) + 1):
        lines = [max(heights[start : start + across]) for start in range(0, len(heights), across)]
        if across * columns * _CELL >= _ASPECT * 2 * sum(lines):
            return across
    return len(heights)


def _legend(
    order: Sequence[int],
    steps: Sequence[tuple[Sequence[int], Sequence[int]]],
    colors: Mapping[int, tuple[int, int, int]],
    names: Mapping[int, str],
    background: bool,
) -> list[Patch]:
    learnt_in = {category: t for t, (_, current) in enumerate(steps) for category in current}
    several = len(steps) > 1
    patches = [
        Patch(
            facecolor=_unit(_color_of(c, colors)),
            label=figure_text(names[c]) + (f" (step {learnt_in[c]})" if several else ""),
        )
        for c in order
    ]
    patches.append(Patch(facecolor=_unit(BACKGROUND_COLOR), label="background" if background else "nothing"))
    if several:
        hatched = Patch(
            facecolor=_unit(FUTURE_COLOR), edgecolor=_unit(HATCH_COLOR), hatch="////", label="not learnt yet"
        )
        outlined = Patch(facecolor="none", edgecolor="none", label="white outline: learnt in this step")
        patches += [hatched, outlined]
    return patches


def _outlined(picture: np.ndarray, labels: np.ndarray, current: Sequence[int]) -> np.ndarray:
    """Draw a line just inside the regions of the current classes."""
    thickness = max(1, min(labels.shape) // 80)
    kernel = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    for category in current:
        region = (labels == category).astype(np.uint8)
        if region.any():
            inner = cv2.erode(region, kernel, borderType=cv2.BORDER_CONSTANT, borderValue=1)
            picture[(region > 0) & (inner == 0)] = OUTLINE_COLOR
    return picture


def _shrunk(shown: GalleryImage) -> GalleryImage:
    height, width = shown.labels.shape
    factor = LARGEST_SIDE / max(height, width)
    if factor >= 1:
        return shown
    size = (max(1, round(width * factor)), max(1, round(height * factor)))

    def small(drawn: np.ndarray) -> np.ndarray:
        return cv2.resize(drawn.astype(np.int32), size, interpolation=cv2.INTER_NEAREST)

    return GalleryImage(
        shown.name,
        cv2.resize(shown.image, size, interpolation=cv2.INTER_AREA),
        small(shown.labels),
        [small(drawn) for drawn in shown.predictions],
        None if shown.label_segments is None else small(shown.label_segments),
        None if shown.prediction_segments is None else [small(drawn) for drawn in shown.prediction_segments],
    )


def _color_of(category: int, colors: Mapping[int, tuple[int, int, int]]) -> tuple[int, int, int]:
    if category not in colors:
        raise GalleryError(f"class {category} has no colour in the class table")
    return colors[category]


def _unit(color: tuple[int, int, int]) -> tuple[float, float, float]:
    return color[0] / 255, color[1] / 255, color[2] / 255
