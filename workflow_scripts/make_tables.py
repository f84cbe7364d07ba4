"""Put all evaluations of a configuration into tidy tables and a summary beside the published numbers."""

import argparse
import json
from pathlib import Path

from model.common.command_line import run
from model.config.reading import parse_config
from model.reporting.collect import collect
from model.reporting.costs import cost_rows
from model.reporting.published import read_published
from model.reporting.summary import markdown, summarise, write_summary
from model.reporting.tables import class_rows, metric_rows, write_csv
from model.workflow.plan import Plan


def main() -> None:
    """Parse the command line and write metrics.csv, per_class.csv, costs.csv and summary.{md,csv,tex}."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the resolved configuration as JSON")
    parser.add_argument("--results", required=True, type=Path, help="folder that holds the evaluations")
    parser.add_argument("--published", required=True, type=Path, help="published_results.csv")
    parser.add_argument("--folder", required=True, type=Path, help="folder to write the tables to")
    arguments = parser.parse_args()
    plan = Plan(parse_config(json.loads(arguments.config), source="configuration"))
    measurements = collect(plan, arguments.results)
    metrics = metric_rows(measurements)
    notes = {(e.dataset, e.task, e.recipe): e.note for e in plan.config.experiments if e.note}
    summary = summarise(metrics, read_published(arguments.published), notes)
    write_csv(metrics, arguments.folder / "metrics.csv")
    write_csv(class_rows(measurements), arguments.folder / "per_class.csv")
    write_csv(cost_rows(plan.runs, arguments.results), arguments.folder / "costs.csv")
    write_summary(summary, arguments.folder)
    print(markdown(summary))


if __name__ == "__main__":
    run(main)
