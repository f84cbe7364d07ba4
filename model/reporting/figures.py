"""Curves over steps, values per class over steps, forgetting, old against new classes, drawn from the tidy tables.

Every function takes the rows of *one* comparison (one dataset, task, scenario, setting, recipe and protocol, see
:func:`select`), returns a figure, and touches neither files nor matplotlib's global state. How methods look:
:mod:`model.reporting.styles`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from model.evaluation.metrics.scores import BACKGROUND
from model.reporting.bounds import is_upper_bound, method_order
from model.reporting.escaping import figure_text
from model.reporting.records import CLASS_METRIC, PRIMARY_METRIC
from model.reporting.styles import Style

COMPARISON = ("dataset", "task", "scenario", "setting", "recipe", "protocol")
"""Columns that are constant within a comparison, and hence in a figure."""


class FigureError(ValueError):
    """Rows that cannot be drawn into one figure."""


_TITLE_CHARACTER = 0.085
"""Width of a title's character in inches, on average and with some margin."""


def select(frame: pd.DataFrame, **identity: object) -> pd.DataFrame:
    """Rows in which every named column has the given value.

    Raises:
        FigureError: if there are none, or they still belong to several comparisons.
    """
    for column, value in identity.items():
        frame = frame[frame[column] == value]
    if frame.empty:
        raise FigureError(f"there are no results with {', '.join(f'{k} = {v}' for k, v in identity.items())}")
    _require_one_comparison(frame)
    return frame


def curves(
    metrics: pd.DataFrame,
    styles: Mapping[str, Style],
    metric: str | None = None,
    groups: Sequence[str] = ("old", "new", "all"),
) -> Figure:
    """Value of each group after every step: a line per method, a band of one standard deviation over seeds.

    The line of the upper bound is one network, averaged at every step over the classes seen by then.

    Args:
        metrics: rows of one comparison.
        styles: from :func:`model.reporting.styles.method_styles`.
        metric: the task's primary metric by default.
        groups: one panel each.

    Raises:
        FigureError: if the rows belong to several comparisons, or hold no such metric.
    """
    _require_one_comparison(metrics)
    metric = metric or PRIMARY_METRIC[metrics["task"].iloc[0]]
    rows = metrics[metrics["metric"] == metric]
    if rows.empty:
        raise FigureError(f"the results hold no '{metric}'; they have {', '.join(sorted(set(metrics['metric'])))}")
    last = int(rows["step"].max())
    figure = _figure(3.4 * len(groups) + 1.4, 3.4)
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    for panel, group in zip(panels, groups, strict=True):
        for method in method_order(rows["method"]):
            part = rows[(rows["method"] == method) & (rows["group"] == group)]
            if part.empty:
                continue
            style, seeds = styles[method], part.groupby("step")["value"]
            steps, mean = seeds.mean().index.to_numpy(), seeds.mean().to_numpy()
            spread = seeds.std(ddof=1).fillna(0).to_numpy()
            panel.plot(
                steps, mean, color=style.color, marker=style.marker, linestyle=style.line, markersize=5, label=method
            )
            panel.fill_between(steps, mean - spread, mean + spread, color=style.color, alpha=0.18, linewidth=0)
        panel.set_title(f"{group} classes", fontsize=10)
        panel.set_xlabel("step")
        panel.set_xlim(-0.15, last + 0.15)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        _tidy(panel)
    panels[0].set_ylabel(f"{metric} (%)")
    panels[0].set_ylim(bottom=0)
    handles = {label: h for panel in panels for h, label in zip(*panel.get_legend_handles_labels(), strict=True)}
    ordered = [name for name in method_order(rows["method"]) if name in handles]
    figure.legend([handles[n] for n in ordered], ordered, loc="outside right center", frameon=False, fontsize=9)
    _entitle(figure, rows)
    return figure


def class_heat_maps(
    per_class: pd.DataFrame, metric: str | None = None, class_order: Sequence[str] | None = None
) -> Figure:
    """Every class (rows) after every step (columns), a panel per method, mean over seeds; empty until it is learnt.

    Args:
        per_class: rows of one comparison.
        metric: the per-class form of the task's primary metric by default.
        class_order: class names in learning order; by default in order of the step in which they first have a value.

    Raises:
        FigureError: if the rows belong to several comparisons, or hold no such metric.
    """
    _require_one_comparison(per_class)
    metric = metric or CLASS_METRIC[per_class["task"].iloc[0]]
    rows = per_class[(per_class["metric"] == metric) & (per_class["class"] != BACKGROUND)]
    if rows.empty:
        raise FigureError(f"the results hold no '{metric}' per class")
    methods = method_order(rows["method"])
    # the upper bound has values at the last step only, as if every class were learnt there
    first = rows[~rows["method"].map(is_upper_bound)].groupby("class", sort=False)["step"].min()
    names = list(class_order or sorted(set(rows["class"]), key=lambda name: (first.get(name, 0), name)))
    learnt = [int(first.get(name, 0)) for name in names]
    last = int(rows["step"].max())
    steps = [sorted(set(rows[rows["method"] == method]["step"])) for method in methods]
    widths = [max(len(s), 2) for s in steps]
    size = 9 if len(names) <= 40 else 5
    figure = _figure(
        1.9 + 0.36 * sum(widths) + 0.35 * len(methods), 1.3 + (0.24 if len(names) <= 40 else 0.1) * len(names)
    )
    panels = figure.subplots(1, len(methods), sharey=True, squeeze=False, width_ratios=widths)[0]
    color_map = matplotlib.colormaps["viridis"].with_extremes(bad="#E6E6E6")
    image = None
    for panel, method, shown in zip(panels, methods, steps, strict=True):
        part = rows[rows["method"] == method]
        table = part.pivot_table(index="class", columns="step", values="value", aggfunc="mean").reindex(
            names, columns=shown
        )
        values = np.ma.masked_invalid(table.to_numpy(float))
        image = panel.imshow(values, aspect="auto", cmap=color_map, vmin=0, vmax=100, interpolation="nearest")
        for boundary in range(1, len(names)):
            if learnt[boundary] != learnt[boundary - 1]:
                panel.axhline(boundary - 0.5, color="white", linewidth=1.5)
        panel.set_title(method, fontsize=9, rotation=30 if len(method) > 5 * max(len(shown), 2) else 0)
        panel.set_xticks(
            range(len(shown)), [str(step) for step in shown] if last < 12 else _sparse(shown), fontsize=size
        )
        panel.tick_params(length=0)
    panels[0].set_yticks(range(len(names)), map(figure_text, names), fontsize=size)
    figure.supxlabel("step", fontsize=9)
    if image is not None:
        bar = figure.colorbar(image, ax=list(panels), fraction=0.05, pad=0.02, shrink=min(1.0, 40 / len(names)))
        bar.set_label(f"{metric} (%)", fontsize=9)
    _entitle(figure, rows)
    return figure


def forgetting_bars(
    metrics: pd.DataFrame, styles: Mapping[str, Style], groups: Sequence[str] = ("old", "new", "all")
) -> Figure:
    """Forgetting after the last step by group: a bar per method, whiskers of one standard deviation over several seeds.

    Args:
        metrics: rows of one comparison.
        styles: from :func:`model.reporting.styles.method_styles`.
        groups: a cluster of bars each; groups without anything to forget yet are left out.

    Raises:
        FigureError: if the rows belong to several comparisons, or no run has several steps.
    """
    _require_one_comparison(metrics)
    rows = metrics[metrics["metric"] == "forgetting"]
    shown = [group for group in groups if group in set(rows["group"])]
    if not shown:
        raise FigureError("there is no forgetting to draw: no method has been trained for several steps")
    methods = method_order(rows["method"])
    width = 0.8 / len(methods)
    figure = _figure(1.6 + 0.36 * len(methods) * len(shown) + 1.6, 3.4)
    panel = figure.subplots()
    for index, method in enumerate(methods):
        values = rows[rows["method"] == method].groupby("group")["value"]
        mean, spread = values.mean().reindex(shown), values.std(ddof=1).reindex(shown)
        places = np.arange(len(shown)) + (index - (len(methods) - 1) / 2) * width
        panel.bar(places, mean, 0.92 * width, color=styles[method].color, label=method)
        panel.errorbar(places, mean, spread, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    panel.axhline(0, color="#333333", linewidth=0.8)
    panel.set_xticks(range(len(shown)), [f"{group} classes" for group in shown])
    panel.set_ylabel(f"forgetting ({CLASS_METRIC[rows['task'].iloc[0]]} points)")
    _tidy(panel)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    _entitle(figure, rows)
    return figure


def trade_off(metrics: pd.DataFrame, styles: Mapping[str, Style], metric: str | None = None) -> Figure:
    """Old classes against new ones after the last step: stability from left to right, plasticity from bottom to top.

    Whiskers are one standard deviation over several seeds; along a grey line the harmonic mean of the two is the same.

    Args:
        metrics: rows of one comparison.
        styles: from :func:`model.reporting.styles.method_styles`.
        metric: the task's primary metric by default.

    Raises:
        FigureError: if the rows belong to several comparisons, or no method has both groups.
    """
    _require_one_comparison(metrics)
    metric = metric or PRIMARY_METRIC[metrics["task"].iloc[0]]
    rows = metrics[(metrics["metric"] == metric) & (metrics["step"] == metrics["step"].max())]
    groups = {group: rows[rows["group"] == group].groupby("method")["value"] for group in ("old", "new")}
    shown = [m for m in method_order(rows["method"]) if all(m in values.groups for values in groups.values())]
    if not shown:
        raise FigureError("no method has been evaluated on old and new classes")
    mean = {group: values.mean() for group, values in groups.items()}
    spread = {group: values.std(ddof=1).fillna(0) for group, values in groups.items()}
    figure = _figure(6.4, 4.6)
    panel = figure.subplots()
    limit = min(100.0, 1.12 * max(1.0, *((mean[g] + spread[g])[shown].max() for g in groups)))
    _harmonic_lines(panel, limit)
    for method in shown:
        style = styles[method]
        panel.errorbar(
            mean["old"][method],
            mean["new"][method],
            spread["new"][method],
            spread["old"][method],
            fmt=style.marker,
            color=style.color,
            markersize=11 if style.marker in "_|" else 7,
            markeredgewidth=2.5 if style.marker in "_|" else 1,
            elinewidth=1,
            label=method,
        )
    panel.set(xlim=(-0.02 * limit, limit), ylim=(-0.02 * limit, limit), aspect="equal")
    panel.set_xlabel(f"old classes, {metric} (%): stability")
    panel.set_ylabel(f"new classes, {metric} (%): plasticity")
    panel.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside right center", frameon=False, fontsize=9)
    _entitle(figure, rows)
    return figure


def _harmonic_lines(panel: matplotlib.axes.Axes, limit: float) -> None:
    """Lines of equal harmonic mean, each with its value."""
    for value in range(10, 100, 10 if limit < 60 else 20):
        old = np.linspace(value / 2 + 1e-6, limit, 400)
        new = value * old / (2 * old - value)
        inside = new <= limit
        if inside.any():
            panel.plot(old[inside], new[inside], color="#D0D0D0", linewidth=0.8, zorder=0)
            panel.text(
                old[inside][-1], new[inside][-1], f" {value}", color="#909090", fontsize=7, va="center", zorder=0
            )


def save_figure(figure: Figure, path: Path) -> None:
    """Write SVG or PNG, depending on the suffix; equal figures give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "segue", "svg.fonttype": "none"}):
        figure.savefig(path, dpi=150, metadata=metadata)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _tidy(panel: matplotlib.axes.Axes) -> None:
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis="y", color="#E0E0E0", linewidth=0.8)
    panel.set_axisbelow(True)


def _entitle(figure: Figure, rows: pd.DataFrame) -> None:
    """Title the figure with what it shows, in as many lines as its width requires."""
    first = rows.iloc[0]
    seeds = rows.groupby("method")["seed"].nunique().max()
    parts = [str(first[name]) for name in ("dataset", "task", "scenario", "setting", "recipe")]
    parts.append(f"protocol: {first['protocol']}")
    if seeds > 1:
        parts.append(f"up to {seeds} seeds")
    lines = [parts[0]]
    for part in parts[1:]:
        longer = f"{lines[-1]} · {part}"
        if len(longer) * _TITLE_CHARACTER <= figure.get_figwidth():
            lines[-1] = longer
        else:
            lines.append(part)
    figure.suptitle("\n".join(lines), fontsize=10)


def _sparse(steps: Sequence[int]) -> list[str]:
    return [str(step) if step % 5 == 0 else "" for step in steps]


def _require_one_comparison(frame: pd.DataFrame) -> None:
    for column in COMPARISON:
        values = sorted(set(frame[column]))
        if len(values) > 1:
            raise FigureError(
                f"one figure needs one {column}, these rows have {', '.join(map(str, values))}; use select()"
            )
