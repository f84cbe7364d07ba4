"""Draw the curves, class maps and forgetting bars of one scenario."""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from model.common.command_line import run
from model.reporting.figures import class_heat_maps, curves, forgetting_bars, method_styles, save_figure, select
from model.reporting.tables import read_csv


def nothing_to_forget() -> Figure:
    """The forgetting figure of a scenario in which no method has been trained for several steps."""
    figure = Figure(figsize=(4, 1))
    figure.text(0.5, 0.5, "no method has been trained for several steps", ha="center", va="center")
    return figure


def main() -> None:
    """Parse the command line and write three SVG files."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, type=Path, help="metrics.csv")
    parser.add_argument("--per-class", required=True, type=Path, help="per_class.csv")
    parser.add_argument(
        "--comparison", required=True, help="JSON: dataset, task, scenario, setting, recipe, protocol, classes"
    )
    parser.add_argument("--folder", required=True, type=Path, help="folder to write the figures to")
    arguments = parser.parse_args()
    comparison = json.loads(arguments.comparison)
    class_order = comparison.pop("classes")
    all_metrics = read_csv(arguments.metrics)
    metrics, per_class = select(all_metrics, **comparison), select(read_csv(arguments.per_class), **comparison)
    styles = method_styles(all_metrics["method"].unique())
    save_figure(curves(metrics, styles), arguments.folder / "curves.svg")
    save_figure(class_heat_maps(per_class, class_order=class_order), arguments.folder / "classes.svg")
    forgets = "forgetting" in set(metrics["metric"])
    save_figure(
        forgetting_bars(metrics, styles) if forgets else nothing_to_forget(), arguments.folder / "forgetting.svg"
    )


if __name__ == "__main__":
    run(main)
