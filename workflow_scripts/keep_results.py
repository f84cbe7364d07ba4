"""Accept finished results under the present code and configuration, instead of having them made again."""

import argparse
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.changes import counted, summary
from model.workflow.contents import Contents
from model.workflow.keep import bring_back, chosen, keep
from model.workflow.plan import Plan
from model.workflow.plan_jobs import plan_jobs, raw_states
from model.workflow.reports_folder import plan_states
from model.workflow.results_folder import ResultsLock


def main() -> None:
    """Parse the command line, write the decision into the records of the results, and tell what is left to do."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "only", nargs="*", help="methods, or paths below the results folder; everything if none is given"
    )
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--reason", default="", help="why they may stay as they are; recorded beside them")
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)
    ResultsLock(results).acquire()
    jobs = plan_jobs(plan, results, raw_states(plan, results, plan.datasets))
    names = chosen(plan, jobs, arguments.only)
    for name in bring_back([job for job in jobs if job.name in names], results):
        print(f"{name}: brought back; a workflow had begun to make it again")
    contents = Contents(results)
    accepted, refused = keep(jobs, names, contents, arguments.reason)
    for job in accepted:
        print(f"kept: {job.name}")
    for line in refused:
        print(f"not kept: {line}")
    print(f"Accepted: {counted(accepted) or 'nothing'}.")
    contents.save()
    print("\n".join(summary(*plan_states(plan, results, [arguments.configfile]))))


if __name__ == "__main__":
    run(main)
