"""Compare each pair of methods by a bootstrap over validation images and seeds."""

import argparse
import json
from pathlib import Path

import numpy as np

from model.common.command_line import read_argument, run
from model.common.files import write_text
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
from model.config.reading import parse_config
from model.reporting.collect import resampled_runs
from model.reporting.significance import COLUMNS, difference_rows, difference_tables, differences
from model.reporting.table_formats import html_tables, markdown_tables
from model.reporting.tables import write_csv
from model.workflow.plan import Plan
from model.workflow.plan_jobs import SIGNIFICANCE, plan_jobs, significance_inputs

SEED = 0
LEAD = (
    "Paired bootstrap over validation images and seeds: the same draws for both methods of a pair. The p values are not "
    "corrected for the number of pairs. Every group is in significance.csv."
)


def main() -> None:
    """Parse the command line and write significance.csv, .md and .html."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the resolved configuration as JSON, or @FILE with it")
    parser.add_argument("--results", required=True, type=Path, help="folder that holds the evaluations")
    parser.add_argument("--folder", required=True, type=Path, help="folder to write to")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap samples")
    arguments = parser.parse_args()
    plan = Plan(parse_config(json.loads(read_argument(arguments.config)), source="configuration"))
    (job,) = [one for one in plan_jobs(plan, arguments.results) if one.name == SIGNIFICANCE]
    record = record_beside(arguments.folder / "significance")
    read = {name: entry.file for name, entry in significance_inputs(plan, arguments.results).items()}
    made_from = basis(job.spec, job_code("compare_methods.py"), read, record)

    found = {}
    for key, evaluations in resampled_runs(plan, arguments.results).items():
        generator = np.random.default_rng(SEED)
        found[key] = differences(evaluations, draws=arguments.draws, generator=generator)
    rows = difference_rows(found)
    files = [arguments.folder / f"significance.{suffix}" for suffix in ("csv", "md", "html")]
    write_csv(rows.sort_values(list(COLUMNS[:7]), kind="stable", ignore_index=True), files[0])
    tables = difference_tables(rows)
    write_text(files[1], markdown_tables("Differences between methods", LEAD, tables))
    write_text(files[2], html_tables("Differences between methods", LEAD, tables))
    write_record(record, made_from, files)


if __name__ == "__main__":
    run(main)
