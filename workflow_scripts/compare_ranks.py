"""Compare the ranks of methods with those in published tables of the same scenario."""

import argparse
import json
from pathlib import Path

import numpy as np

from model.common.command_line import read_argument, run
from model.common.fingerprints import job_code
from model.common.provenance import basis, record_beside, write_record
from model.config.reading import parse_config
from model.reporting.agreement import agreement_figure, agreement_rows, compare
from model.reporting.collect import ranked
from model.reporting.figures import save_figure
from model.reporting.published import read_published
from model.reporting.tables import write_csv
from model.workflow.plan import Plan
from model.workflow.plan_jobs import AGREEMENT, agreement_inputs, plan_jobs

SEED = 0


def main() -> None:
    """Parse the command line and write agreement.csv and agreement.svg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True, help="the resolved configuration as JSON, or @FILE with it")
    parser.add_argument("--results", required=True, type=Path, help="folder that holds the evaluations")
    parser.add_argument("--published", required=True, type=Path, help="published_results.csv")
    parser.add_argument("--folder", required=True, type=Path, help="folder to write to")
    parser.add_argument("--draws", type=int, default=1000, help="bootstrap samples")
    arguments = parser.parse_args()
    plan = Plan(parse_config(json.loads(read_argument(arguments.config)), source="configuration"))
    (job,) = [one for one in plan_jobs(plan, arguments.results) if one.name == AGREEMENT]
    record = record_beside(arguments.folder / "agreement")
    read = {name: entry.file for name, entry in agreement_inputs(plan, arguments.results).items()}
    made_from = basis(job.spec, job_code("compare_ranks.py"), read, record)

    published = read_published(arguments.published)
    found = {}
    for (dataset, task, scenario, setting), part in ranked(plan, arguments.results).items():
        tables = published.tables(plan.config.ranked_against[dataset], task, scenario, setting, "mIoU")
        generator = np.random.default_rng(SEED)
        compared = compare(part.matrices, tables, part.score, draws=arguments.draws, generator=generator)
        found[f"{scenario} {setting}"] = compared
    files = arguments.folder / "agreement.csv", arguments.folder / "agreement.svg"
    write_csv(agreement_rows(found), files[0])
    save_figure(agreement_figure(found), files[1])
    write_record(record, made_from, files)


if __name__ == "__main__":
    run(main)
