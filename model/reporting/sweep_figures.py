"""The figure of a sweep: values of a key from left to right, what they give from bottom to top."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullFormatter, NullLocator

from model.config.sweeps import value_text
from model.reporting.bounds import method_order
from model.reporting.styles import MARKERS, Style, method_styles
from model.reporting.sweeps import CHOICE, GROUPS, key_title

_DECADE = 10.0
_MAP = "viridis"


@dataclass(frozen=True)
class _Line:
    label: str
    style: Style
    rows: pd.DataFrame


@dataclass(frozen=True)
class _Panels:
    """One row of panels: the same key from left to right."""

    title: str
    key: str
    lines: Sequence[_Line]


def sweep_figure(rows: pd.DataFrame, spec: Mapping[str, Any]) -> Figure:
    """Old, new and all classes in a panel each, against the first key; lines for values of the others, or for methods.

    The axis is logarithmic where values span a decade or more. Whiskers are one standard deviation over seeds; a ring marks the
    chosen combination of each method. Methods that the sweep does not change are horizontal lines.

    Args:
        rows: from :func:`model.reporting.sweeps.sweep_rows`; those of the first protocol are drawn.
        spec: of the same sweep.
    """
    rows = rows[rows["protocol"] == spec["protocols"][0]]
    keys: dict[str, list[str]] = {}
    for _, _, base, values in spec["points"]:
        keys[base] = [key for key in spec["keys"] if key in values]
    fixed = [_Line(base, method_styles([base])[base], _of(rows, base)) for base in method_order(keys) if not keys[base]]
    drawn = _rows_of_panels(rows, keys, spec)
    groups = [group for group in GROUPS if group in set(rows["group"])]
    figure = Figure(figsize=(3.4 * len(groups) + 2.2, 3.0 * len(drawn) + 0.6), layout="constrained")
    FigureCanvasAgg(figure)
    for panels, part in zip(figure.subplots(len(drawn), len(groups), squeeze=False), drawn, strict=True):
        for panel, group in zip(panels, groups, strict=True):
            place = _axis(panel, part.key, spec["keys"][part.key])
            for line in fixed:
                mean = line.rows[line.rows["group"] == group]["mean"].iloc[0]
                panel.axhline(mean, color=line.style.color, linestyle=line.style.line, linewidth=1.2)
            for line in part.lines:
                _draw(panel, line, group, part.key, place)
            panel.set_title(f"{group} classes", fontsize=10)
            panel.set_xlabel(key_title(part.key))
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(axis="y", color="#E0E0E0", linewidth=0.8)
            panel.set_axisbelow(True)
        panels[0].set_ylabel(f"{rows['metric'].iloc[0]} (%)")
        _legend(panels[-1], part, fixed)
    first = ", ".join(str(spec[name]) for name in ("dataset", "task", "scenario", "setting", "recipe"))
    figure.suptitle(f"{first} · protocol: {spec['protocols'][0]}", fontsize=10)
    return figure


def _rows_of_panels(rows: pd.DataFrame, keys: Mapping[str, list[str]], spec: Mapping[str, Any]) -> list[_Panels]:
    """Methods with a single key share panels; any other method has panels of its own, a line for the values of its other keys."""
    drawn = []
    alone = [base for base in method_order(keys) if len(keys[base]) == 1]
    for key in dict.fromkeys(keys[base][0] for base in alone):
        bases = [base for base in alone if keys[base] == [key]]
        styles = method_styles(bases)
        drawn.append(_Panels("", key, [_Line(base, styles[base], _of(rows, base)) for base in bases]))
    for base in method_order(keys):
        if len(keys[base]) < 2:
            continue
        first, *others = keys[base]
        own = _of(rows, base)
        names = list(map(key_title, others))
        texts = [" · ".join(f"{n} {own.loc[i, n]}" for n in names) for i in own.index]
        wanted = list(dict.fromkeys(texts))
        colors = matplotlib.colormaps[_MAP]
        lines = []
        for number, text in enumerate(wanted):
            color = matplotlib.colors.to_hex(colors(0.85 * number / max(len(wanted) - 1, 1)))
            style = Style(color, MARKERS[number % len(MARKERS)], "-")
            lines.append(_Line(text, style, own[[one == text for one in texts]]))
        drawn.append(_Panels(base, first, lines))
    return drawn


def _of(rows: pd.DataFrame, base: str) -> pd.DataFrame:
    return rows[rows["method"] == base]


def _axis(panel: Axes, key: str, values: Sequence[Any]) -> dict[str, float]:
    """Prepare the axis for the values of a key; where each of them stands, by its text."""
    texts = [value_text(value) for value in values]
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        place = {text: float(number) for number, text in enumerate(texts)}
        panel.set_xlim(-0.4, len(texts) - 0.6)
    else:
        place = {text: float(value) for text, value in zip(texts, values, strict=True)}
        positive = sorted(abs(value) for value in values if value)
        if len(positive) > 1 and positive[-1] / positive[0] >= _DECADE:
            if min(values) > 0:
                panel.set_xscale("log")
            else:
                panel.set_xscale("symlog", linthresh=positive[0])
    panel.set_xticks(list(place.values()), list(place), fontsize=9)
    panel.xaxis.set_minor_locator(NullLocator())
    panel.xaxis.set_minor_formatter(NullFormatter())
    return place


def _draw(panel: Axes, line: _Line, group: str, key: str, place: Mapping[str, float]) -> None:
    own = line.rows[line.rows["group"] == group]
    own = own.assign(place=[place[text] for text in own[key_title(key)]]).sort_values("place")
    panel.errorbar(
        own["place"],
        own["mean"],
        own["std"].fillna(0),
        color=line.style.color,
        marker=line.style.marker,
        linestyle=line.style.line,
        markersize=5,
        elinewidth=1,
        capsize=2,
    )
    chosen = own[own["chosen"] == 1]
    panel.plot(chosen["place"], chosen["mean"], "o", markersize=13, markerfacecolor="none", markeredgecolor="#333333")


def _legend(panel: Axes, part: _Panels, fixed: Sequence[_Line]) -> None:
    handles = []
    for line in (*part.lines, *fixed):
        marker = line.style.marker if any(line is one for one in part.lines) else ""
        look: dict[str, Any] = {"color": line.style.color, "linestyle": line.style.line, "marker": marker}
        handles.append(Line2D([], [], label=line.label, **look))
    ring = Line2D([], [], marker="o", markersize=11, markerfacecolor="none", markeredgecolor="#333333", linestyle="")
    ring.set_label(f"chosen: highest mean of {CHOICE} classes")
    legend = panel.legend(
        handles=[*handles, ring], loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False, fontsize=9
    )
    if part.title:
        legend.set_title(part.title)
