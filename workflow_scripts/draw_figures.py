"""Draw the curves, class maps and forgetting bars of one scenario."""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
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
        "--comparison",
        required=True,
        help="JSON, or @FILE with it: dataset, task, scenario, setting, recipe, protocol, classes",
    )
    parser.add_argument("--folder", required=True, type=Path, help="folder to write the figures to")
    arguments = parser.parse_args()
    comparison = json.loads(read_argument(arguments.comparison))
    record = record_beside(arguments.folder / "figures")
    read = {"metrics": arguments.metrics, "values per class": arguments.per_class}
    made_from = basis(dict(comparison), job_code("draw_figures.py"), read, record)
    class_order = comparison.pop("classes")
    all_metrics = read_csv(arguments.metrics)
    metrics, per_class = select(all_metrics, **comparison), select(read_csv(arguments.per_class), **comparison)
    styles = method_styles(all_metrics["method"].unique())
    forgets = "forgetting" in set(metrics["metric"])
    figures = {
        "curves": curves(metrics, styles),
        "classes": class_heat_maps(per_class, class_order=class_order),
        "forgetting": forgetting_bars(metrics, styles) if forgets else nothing_to_forget(),
    }
    for name, figure in figures.items():
        save_figure(figure, arguments.folder / f"{name}.svg")
    write_record(record, made_from, [arguments.folder / f"{name}.svg" for name in figures])


if __name__ == "__main__":
    run(main)
