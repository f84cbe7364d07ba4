"""What happens before results: the loss terms of trainings, and what the replay memory holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from model.reporting.escaping import figure_text
from model.reporting.styles import COLORS

MOST_POINTS = 250
"""Longer trainings are averaged over spans of iterations before drawing, so many spans a step."""
_COLUMNS = 3
_NOT_TERMS = ("iteration", "learning_rate")
_LINES = ("-", "--", ":", "-.")


def read_losses(path: Path) -> pd.DataFrame:
    """Loss terms over iterations, as a training wrote them.

    Raises:
        ValueError: naming the file, if it is no table of a training.
    """
    try:
        frame = pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is not the table of a training ({error}); delete it to train again") from error
    if "iteration" not in frame:
        raise ValueError(f"{path} has no column 'iteration'; delete it to train again")
    return frame


def loss_figure(trainings: Mapping[str, Sequence[pd.DataFrame]], title: str = "") -> Figure:
    """Every loss term over the iterations of all steps, a panel per method; vertical lines separate the steps.

    Args:
        trainings: method → table of each step (:func:`read_losses`); a table may be empty, as that of an import is.
        title: at the top.
    """
    shown = {method: steps for method, steps in trainings.items() if any(len(step) for step in steps)}
    columns = min(_COLUMNS, max(1, len(shown)))
    lines = -(-max(1, len(shown)) // columns)
    figure = Figure(figsize=(4.4 * columns, 2.9 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel in panels[len(shown) :]:
        panel.set_axis_off()
    for panel, (method, steps) in zip(panels, shown.items(), strict=False):
        _draw_losses(panel, steps)
        panel.set_title(figure_text(method), fontsize=10)
    if not shown:
        panels[0].text(0.5, 0.5, "nothing was trained", ha="center", va="center")
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _draw_losses(panel: Axes, steps: Sequence[pd.DataFrame]) -> None:
    start = 0.0
    terms = list(dict.fromkeys(name for step in steps for name in step.columns if name not in _NOT_TERMS))
    if len(terms) == 2 and "total" in terms:  # a single term is the total
        terms.remove("total")
    for number, step in enumerate(steps):
        if not len(step):
            continue
        for place, term in enumerate(terms):
            if term in step and step[term].notna().any():
                spans = _thinned(step[["iteration", term]].dropna())
                color = "#000000" if term == "total" else COLORS[place % len(COLORS)]
                line = _LINES[place // len(COLORS) % len(_LINES)]
                label = figure_text(term)
                known = label in panel.get_legend_handles_labels()[1]
                label = "_again" if known else label
                panel.plot(
                    start + spans["iteration"], spans[term], color=color, linestyle=line, linewidth=1.2, label=label
                )
        end = start + float(step["iteration"].max())
        if number < len(steps) - 1:
            panel.axvline(end, color="#B0B0B0", linewidth=0.8, linestyle=":")
        where = panel.get_xaxis_transform()
        middle = (start + end) / 2
        panel.text(middle, 1.0, f"step {number}", transform=where, fontsize=7, ha="center", va="top", color="#707070")
        start = end
    panel.set_xlabel("iteration, steps in a row", fontsize=9)
    panel.set_ylabel("loss", fontsize=9)
    low, high = panel.get_ylim()
    panel.set_ylim(min(0.0, low), high + 0.3 * (high - min(0.0, low)))  # room for the legend
    panel.tick_params(labelsize=8)
    panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=7, frameon=False, loc="upper right", bbox_to_anchor=(1, 0.95), ncols=3)


def _thinned(frame: pd.DataFrame) -> pd.DataFrame:
    if len(frame) <= MOST_POINTS:
        return frame
    span = np.arange(len(frame)) * MOST_POINTS // len(frame)
    return frame.groupby(span).mean()


def memory_figure(memories: Mapping[str, Sequence[Mapping[str, Any]]], names: Mapping[int, str]) -> Figure:
    """Shares of the classes in each memory, beside the shares that its rule aims at.

    Args:
        memories: title → contents of the memory files of one chain (:func:`model.memory.memory_file.read_memory`), by step.
        names: category id → class name.
    """
    panels_of = [(title, memory) for title, chain in memories.items() for memory in chain]
    most = max((len(memory["classes"]) for _, memory in panels_of), default=1)
    columns = max(1, min(len(panels_of), 3 if most <= 25 else 1))
    lines = -(-max(1, len(panels_of)) // columns)
    width = min(16.0, max(3.6, 0.24 * most + 1.2))
    figure = Figure(figsize=(width * columns, 2.9 * lines + 0.3), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    for panel in panels[len(panels_of) :]:
        panel.set_axis_off()
    for panel, (title, memory) in zip(panels, panels_of, strict=False):
        classes = memory["classes"]
        places = np.arange(len(classes))
        held, trained = (shares(memory[key], classes) for key in ("counts", "training_counts"))
        panel.bar(places, held, 0.8, color=COLORS[0], label="memory")
        if memory["selection"] == "class-balanced":
            panel.axhline(100 / len(classes), color="#000000", linewidth=1.2, label="aim: equal shares")
        else:
            aim = "aim: " if memory["selection"] == "class-proportional" else ""
            panel.plot(
                places, trained, "_", color=COLORS[1], markersize=9, markeredgewidth=2, label=f"{aim}training data"
            )
        size = 8 if len(classes) <= 40 else 5
        panel.set_xticks(places, [figure_text(names.get(c, str(c))) for c in classes], rotation=90, fontsize=size)
        panel.set_title(
            figure_text(f"{title}, before step {memory['step']}: {len(memory['images'])} images"), fontsize=9
        )
        panel.set_ylabel("share (%)", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
        panel.set_xlim(-0.6, len(classes) - 0.4)
        panel.legend(fontsize=7, frameon=False)
    if not panels_of:
        panels[0].text(0.5, 0.5, "no method replays exemplars", ha="center", va="center")
    return figure


def shares(counts: Mapping[str, int], classes: Sequence[int]) -> np.ndarray:
    """(K,) percent of each class in a memory file's counts.

    Args:
        counts: category id as text → number; classes that are absent have none.
        classes: category ids.
    """
    found = np.array([counts.get(str(category), 0) for category in classes], dtype=float)
    return 100 * found / max(found.sum(), 1)
