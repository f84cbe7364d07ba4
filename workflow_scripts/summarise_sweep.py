"""Table and figure of one sweep: what each combination of its values gives after the last step."""

import argparse
import json
from pathlib import Path

from model.common.command_line import read_argument, run
from model.common.files import write_text
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
from model.reporting.figures import save_figure
from model.reporting.sweep_figures import sweep_figure
from model.reporting.sweeps import sweep_lead, sweep_rows, sweep_tables
from model.reporting.table_formats import html_tables, markdown_tables
from model.reporting.tables import read_csv, write_csv


def main() -> None:
    """Parse the command line and write the sweep's table and figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", required=True, type=Path, help="metrics.csv")
    parser.add_argument("--sweep", required=True, help="JSON, or @FILE with it: what is swept, and the runs")
    parser.add_argument("--table", required=True, type=Path, help="table to write, without suffix: .csv, .md, .html")
    parser.add_argument("--figure", required=True, type=Path, help="figure to write, without suffix: .svg, .png")
    arguments = parser.parse_args()
    sweep = json.loads(read_argument(arguments.sweep))
    record = record_beside(arguments.table)
    made_from = basis(sweep, job_code("summarise_sweep.py"), {"metrics": arguments.metrics}, record)
    rows = sweep_rows(read_csv(arguments.metrics), sweep)
    tables, lead = sweep_tables(rows, sweep), sweep_lead(sweep)
    written = [arguments.table.with_name(f"{arguments.table.name}.{suffix}") for suffix in ("csv", "md", "html")]
    write_csv(rows, written[0])
    page = markdown_tables("Sweep", lead, tables)
    write_text(written[1], page)
    write_text(written[2], html_tables("Sweep", lead, tables))
    figure = sweep_figure(rows, sweep)
    for suffix in ("svg", "png"):
        written.append(arguments.figure.with_name(f"{arguments.figure.name}.{suffix}"))
        save_figure(figure, written[-1])
    write_record(record, made_from, written)
    print(page)


if __name__ == "__main__":
    run(main)
