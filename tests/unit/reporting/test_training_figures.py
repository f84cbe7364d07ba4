"""Loss terms and memories as they were recorded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from model.reporting.training_figures import MOST_POINTS, loss_figure, memory_figure, read_losses, shares

STEP = pd.DataFrame({"iteration": [1, 2, 3], "learning_rate": 0.1, "a": [3.0, 2.0, 1.0], "total": [3.0, 2.0, 1.0]})
NEXT = pd.DataFrame({"iteration": [1, 2], "learning_rate": 0.1, "a": [1.0, 1.0], "b": [4.0, 2.0], "total": [5.0, 3.0]})


def test_steps_follow_each_other_and_terms_begin_where_they_are_used() -> None:
    figure = loss_figure({"mib": [STEP, NEXT], "lwf": [STEP]})
    panel = figure.axes[0]
    lines = [(line.get_label(), list(line.get_xdata()), list(line.get_ydata())) for line in panel.get_lines()]
    drawn = {label: (x, y) for label, x, y in lines if label in ("a", "b", "total")}
    assert drawn["a"] == ([1, 2, 3], [3, 2, 1]) and drawn["b"] == ([4, 5], [4, 2])
    assert any(x == [4, 5] and y == [5, 3] for _, x, y in lines), "the total of the second step"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a", "total", "b"]
    assert [axes.get_title() for axes in figure.axes[:2]] == ["mib", "lwf"]


def test_a_single_term_is_not_drawn_twice() -> None:
    (panel,) = loss_figure({"lwf": [STEP]}).axes
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["a"]


def test_long_trainings_are_averaged_over_spans() -> None:
    count = 10 * MOST_POINTS
    long = pd.DataFrame({"iteration": np.arange(count), "a": np.tile([0.0, 2.0], count // 2)})
    (panel,) = loss_figure({"m": [long]}).axes
    (line,) = [line for line in panel.get_lines() if line.get_label() == "a"]
    assert len(line.get_xdata()) == MOST_POINTS and np.allclose(line.get_ydata(), 1)


def test_nothing_trained_and_nothing_replayed_is_said() -> None:
    empty = pd.DataFrame({"iteration": [], "learning_rate": []})
    assert "nothing was trained" in [text.get_text() for text in loss_figure({"import": [empty]}).axes[0].texts]
    assert "no method replays exemplars" in [text.get_text() for text in memory_figure({}, {}).axes[0].texts]


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", '"\n'])
def test_a_file_that_is_no_table_of_a_training_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "train.csv").write_text(content)
    with pytest.raises(ValueError, match=r"train\.csv .*delete it to train again"):
        read_losses(tmp_path / "train.csv")


def memory(selection: str) -> dict[str, object]:
    counts = {"counts": {"3": 1, "5": 3}, "training_counts": {"3": 10, "5": 20, "9": 70}}
    return {"selection": selection, "step": 1, "classes": [3, 5, 9], "images": [{}] * 4, **counts}


def test_shares_of_memory_and_aim() -> None:
    assert shares({"3": 1, "5": 3}, [3, 5, 9]).tolist() == [25, 75, 0]
    figure = memory_figure({"class-proportional": [memory("class-proportional")]}, {3: "sky", 5: "$sea$"})
    (panel,) = figure.axes
    assert [bar.get_height() for bar in panel.patches] == [25, 75, 0]
    (aim,) = [line for line in panel.get_lines() if "aim" in str(line.get_label())]
    assert np.allclose(aim.get_ydata(), [10, 20, 70])
    assert [label.get_text() for label in panel.get_xticklabels()] == ["sky", r"\$sea\$", "9"]


def test_a_balanced_memory_aims_at_equal_shares() -> None:
    (panel,) = memory_figure({"class-balanced": [memory("class-balanced")]}, {}).axes
    (aim,) = [line for line in panel.get_lines() if "aim" in str(line.get_label())]
    assert np.allclose(aim.get_ydata(), 100 / 3)
