"""Figures show the numbers of the tables; files are reproducible."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from made_up_runs import measure_joint, measure_run

from model.reporting.figures import (
    FigureError,
    class_heat_maps,
    curves,
    forgetting_bars,
    save_figure,
    select,
    trade_off,
)
from model.reporting.styles import method_styles
from model.reporting.tables import class_rows, metric_rows

Tables = tuple[pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    folder = tmp_path_factory.mktemp("runs")
    found = measure_joint(folder, 0.95)
    for seed in (0, 1):
        found += measure_run(folder, "mib", (0.9, 0.7, 0.6 + 0.05 * seed), seed)
    found += measure_run(folder, "finetuning", (0.9, 0.4, 0.1))
    return metric_rows(found), class_rows(found)


def test_curves_show_means_over_seeds(tables: Tables) -> None:
    metrics, _ = tables
    figure = curves(metrics, method_styles(metrics["method"]))
    panels = {panel.get_title(): panel for panel in figure.axes}
    assert list(panels) == ["old classes", "new classes", "all classes"]
    lines = {line.get_label(): line for line in panels["all classes"].get_lines()}
    for method in ("joint", "mib", "finetuning"):
        part = metrics[(metrics["method"] == method) & (metrics["metric"] == "mIoU") & (metrics["group"] == "all")]
        np.testing.assert_allclose(lines[method].get_ydata(), part.groupby("step")["value"].mean())
        assert lines[method].get_xdata().tolist() == [0, 1, 2]
    assert {line.get_label(): list(line.get_xdata()) for line in panels["new classes"].get_lines()}["mib"] == [1, 2]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == ["joint", "mib", "finetuning"]


def test_heat_maps_are_empty_before_a_class_is_learnt(tables: Tables) -> None:
    _, classes = tables
    figure = class_heat_maps(classes)
    panels = {panel.get_title(): panel for panel in figure.axes if panel.get_title()}
    assert list(panels) == ["joint", "mib", "finetuning"]
    values = panels["mib"].images[0].get_array()
    assert values.mask.tolist() == [[False] * 3, [False] * 3, [True, False, False], [True, True, False]]
    names = [label.get_text() for label in panels["joint"].get_yticklabels()]
    assert names == ["sea", "sky", "cat", "dog"]
    part = classes[(classes["method"] == "mib") & (classes["class"] == "cat") & (classes["metric"] == "IoU")]
    np.testing.assert_allclose(values[2, 1:], part.groupby("step")["value"].mean())
    assert panels["joint"].images[0].get_array().shape == (4, 1)
    ordered = class_heat_maps(classes, class_order=["sky", "sea", "cat", "dog"])
    assert ordered.axes[0].get_yticklabels()[0].get_text() == "sky"


def test_bars_show_forgetting(tables: Tables) -> None:
    metrics, _ = tables
    figure = forgetting_bars(metrics, method_styles(metrics["method"]))
    bars = {c.get_label(): [bar.get_height() for bar in c] for c in figure.axes[0].containers if hasattr(c, "patches")}
    rows = metrics[(metrics["metric"] == "forgetting") & (metrics["method"] == "finetuning")].set_index("group")[
        "value"
    ]
    np.testing.assert_allclose(bars["finetuning"], [rows["old"], rows["new"], rows["all"]])
    assert "joint" not in bars


def test_titles_fit_into_narrow_figures(tables: Tables) -> None:
    metrics, classes = (table.assign(recipe="mask2former-r50-of-a-long-name") for table in tables)
    styles = method_styles(metrics["method"])
    for figure in (curves(metrics, styles), class_heat_maps(classes), forgetting_bars(metrics, styles)):
        figure.draw_without_rendering()
        extent = figure._suptitle.get_window_extent()
        assert extent.x0 >= 0 and extent.x1 <= figure.bbox.width
        assert "mask2former-r50-of-a-long-name" in figure._suptitle.get_text()


@pytest.mark.parametrize("ending", ["svg", "png"])
def test_files_are_reproducible(tmp_path: Path, tables: Tables, ending: str) -> None:
    metrics, _ = tables
    for name in ("a", "b"):
        save_figure(curves(metrics, method_styles(metrics["method"])), tmp_path / "figures" / f"{name}.{ending}")
    first, second = (tmp_path / "figures" / f"{name}.{ending}" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert first.stat().st_size > 1000


def test_one_comparison_at_a_time(tables: Tables) -> None:
    metrics, classes = tables
    both = pd.concat([metrics, metrics.assign(protocol="plop")])
    styles = method_styles(metrics["method"])
    with pytest.raises(FigureError, match="needs one protocol, these rows have plop, segue"):
        curves(both, styles)
    assert len(select(both, protocol="segue")) == len(metrics)
    with pytest.raises(FigureError, match="no results with scenario = 15-1"):
        select(metrics, scenario="15-1")
    with pytest.raises(FigureError, match="hold no 'PQ'"):
        curves(metrics, styles, metric="PQ")
    with pytest.raises(FigureError, match="hold no 'PQ' per class"):
        class_heat_maps(classes, metric="PQ")
    with pytest.raises(FigureError, match="no forgetting"):
        forgetting_bars(metrics[metrics["method"] == "joint"], styles)


@pytest.mark.parametrize("name", ["$\\frac{", "a $x^2$ b", "<script>alert(1)</script>", "tom & jerry", "two\nlines"])
def test_names_of_classes_are_shown_as_they_are(tmp_path: Path, tables: Tables, name: str) -> None:
    _, classes = tables
    figure = class_heat_maps(classes.assign(**{"class": classes["class"].replace("sky", name)}))
    save_figure(figure, tmp_path / "classes.svg")
    document = ElementTree.fromstring((tmp_path / "classes.svg").read_text(encoding="utf-8"))
    texts = {"".join(node.itertext()) for node in document.iter("{http://www.w3.org/2000/svg}text")}
    assert name.replace("\n", " ") in texts
    assert not list(document.iter("{http://www.w3.org/2000/svg}script"))


def test_old_against_new_classes_after_the_last_step(tables: Tables) -> None:
    metrics, _ = tables
    figure = trade_off(metrics, method_styles(metrics["method"]))
    (panel,) = figure.axes
    found = {container.get_label(): container[0] for container in panel.containers}
    assert list(found) == ["joint", "mib", "finetuning"]
    rows = metrics[(metrics["metric"] == "mIoU") & (metrics["step"] == 2)]
    for method, point in found.items():
        for group, place in (("old", point.get_xdata()), ("new", point.get_ydata())):
            own = rows[(rows["method"] == method) & (rows["group"] == group)]
            np.testing.assert_allclose(np.asarray(place, float), own["value"].mean())
    for line in panel.get_lines():
        x, y = line.get_data()
        if len(x) > 10:  # lines of one harmonic mean
            harmonic = 2 * x * y / (x + y)
            np.testing.assert_allclose(harmonic, harmonic[0], rtol=1e-4)
    with pytest.raises(FigureError, match="no method has been evaluated on old and new classes"):
        trade_off(metrics[metrics["group"] != "new"], method_styles(["mib"]))
