"""Put all evaluations of a configuration into tidy tables and a summary beside the published numbers."""

import argparse
import json
from pathlib import Path

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
from model.config.reading import parse_config
from model.reporting.collect import collect, released_rows
from model.reporting.costs import cost_rows
from model.reporting.orders import order_rows
from model.reporting.published import read_published
from model.reporting.published_tables import published_tables, write_published
from model.reporting.summary import PRINTED, summarise
from model.reporting.summary_tables import markdown, write_summary
from model.reporting.tables import class_rows, metric_rows, write_csv
from model.reporting.verification import kept_runs, verify
from model.workflow.contents import Contents
from model.workflow.plan import Plan
from model.workflow.plan_jobs import result_jobs, table_inputs, tables_spec
from model.workflow.state import recorded_states


def main() -> None:
    """Parse the command line and write values, costs, the summary and the published tables beside it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the resolved configuration as JSON, or @FILE with it")
    parser.add_argument("--results", required=True, type=Path, help="folder that holds the evaluations")
    parser.add_argument("--published", required=True, type=Path, help="published_results.csv")
    parser.add_argument("--folder", required=True, type=Path, help="folder to write the tables to")
    arguments = parser.parse_args()
    plan = Plan(parse_config(json.loads(read_argument(arguments.config)), source="configuration"))
    contents = Contents(arguments.results)
    jobs = result_jobs(plan, arguments.results)
    states = recorded_states(jobs, contents)
    contents.save()
    measurements = collect(plan, arguments.results)  # first: it says which evaluation is missing or damaged
    record = record_beside(arguments.folder / "tables")
    read = {name: entry.file for name, entry in table_inputs(plan, arguments.results).items()}
    made_from = basis(tables_spec(plan), job_code("make_tables.py"), read, record)

    verify(jobs, states)
    metrics = metric_rows(measurements)
    notes = plan.notes
    kept = kept_runs(plan.runs, jobs, states)
    published, released = read_published(arguments.published), released_rows(plan)
    summary = summarise(metrics, published, notes, kept, released)
    beside = published_tables(published, summarise(metrics, published, notes, kept, released, PRINTED))
    tables = {"metrics.csv": metrics, "per_class.csv": class_rows(measurements)}
    tables["costs.csv"] = costs = cost_rows(plan.runs, arguments.results, kept)
    tables["orders.csv"] = order_rows(summary)
    for name, table in tables.items():
        write_csv(table, arguments.folder / name)
    written = [arguments.folder / name for name in tables]
    written += [*write_summary(summary, arguments.folder, costs), *write_published(beside, arguments.folder)]
    write_record(record, made_from, written)
    print(markdown(summary))


if __name__ == "__main__":
    run(main)
