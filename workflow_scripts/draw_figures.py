"""Draw the figures of one scenario: curves, old against new classes, forgetting, class maps, losses, memories."""

import argparse
import json
from pathlib import Path

from matplotlib.figure import Figure

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
from model.memory.memory_file import read_memory
from model.reporting.figures import class_heat_maps, curves, forgetting_bars, save_figure, select, trade_off
from model.reporting.styles import method_styles
from model.reporting.tables import read_csv
from model.reporting.training_figures import loss_figure, memory_figure, read_losses
from model.workflow.plan_jobs import FIGURE_FORMATS

NEVER_FORGETS = "no method has been trained for several steps"


def nothing(why: str) -> Figure:
    """A figure that says why there is none."""
    figure = Figure(figsize=(4, 1))
    figure.text(0.5, 0.5, why, ha="center", va="center")
    return figure


def drawn_files(argument: str) -> dict[str, list[Path]]:
    """Title → files, as the command line names them."""
    found = json.loads(read_argument(argument))
    return {title: [Path(file) for file in files] for title, files in found.items()}


def main() -> None:
    """Parse the command line and write every figure as SVG and PNG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, type=Path, help="metrics.csv")
    parser.add_argument("--per-class", required=True, type=Path, help="per_class.csv")
    parser.add_argument(
        "--comparison",
        required=True,
        help="JSON, or @FILE with it: dataset, task, scenario, setting, recipe, protocol, classes, categories",
    )
    files = "JSON, or @FILE with it: title → list of files, one per step"
    parser.add_argument("--losses", default="{}", help=f"loss terms; {files}")
    parser.add_argument("--memories", default="{}", help=f"exemplar memories; {files}")
    parser.add_argument("--folder", required=True, type=Path, help="folder to write the figures to")
    arguments = parser.parse_args()
    comparison = json.loads(read_argument(arguments.comparison))
    record = record_beside(arguments.folder / "figures")
    losses, memories = drawn_files(arguments.losses), drawn_files(arguments.memories)
    read = {"metrics": arguments.metrics, "values per class": arguments.per_class}
    for title, steps in {**losses, **memories}.items():
        read |= {f"{title}, {step}": file for step, file in enumerate(steps)}
    made_from = basis(dict(comparison), job_code("draw_figures.py"), read, record)
    class_order, categories = comparison.pop("classes"), comparison.pop("categories")
    all_metrics = read_csv(arguments.metrics)
    metrics, per_class = select(all_metrics, **comparison), select(read_csv(arguments.per_class), **comparison)
    styles = method_styles(all_metrics["method"].unique())
    forgets = "forgetting" in set(metrics["metric"])
    learns = {"old", "new"} <= set(metrics["group"])
    tables = {title.removeprefix("losses of "): list(map(read_losses, files)) for title, files in losses.items()}
    held = {title.removeprefix("memory "): list(map(read_memory, files)) for title, files in memories.items()}
    figures = {
        "curves": curves(metrics, styles),
        "trade_off": trade_off(metrics, styles) if learns else nothing("there is one step only"),
        "forgetting": forgetting_bars(metrics, styles) if forgets else nothing(NEVER_FORGETS),
        "classes": class_heat_maps(per_class, class_order=class_order),
        "losses": loss_figure(tables),
        "memory": memory_figure(held, dict(zip(categories, class_order, strict=True))),
    }
    written = []
    for name, figure in figures.items():
        for suffix in FIGURE_FORMATS:
            written.append(arguments.folder / f"{name}.{suffix}")
            save_figure(figure, written[-1])
    write_record(record, made_from, written)


if __name__ == "__main__":
    run(main)
