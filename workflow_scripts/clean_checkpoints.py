"""List the checkpoints that nothing in the configuration needs any more, and remove them if told to with --yes."""

import argparse
from pathlib import Path

from tabulate import tabulate

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.plan import Plan
from model.workflow.reports_folder import plan_states
from model.workflow.results_folder import ResultsLock
from model.workflow.retention import REMOVED, Retention, remove, retention


def listing(found: Retention) -> list[str]:
    """What may be removed with what it costs to get it back, and what stays."""
    lines = []
    if found.removable:
        rows = [
            [f"{entry.size / 1e6:,.1f} MB", str(entry.cost), len(entry.again), entry.training]
            for entry in found.removable
        ]
        heads = ["size", "to train it again", "trainings", "checkpoint of"]
        lines += [tabulate(rows, heads, tablefmt="simple", disable_numparse=True), ""]
    size = sum(entry.size for entry in found.removable)
    count = len(found.removable)
    lines.append(f"{count} checkpoint{'s' * (count != 1)} that nothing needs any more: {size / 1e6:,.1f} MB.")
    return [*lines, *(f"Stay: {number} {why}." for why, number in found.kept.items())]


def main() -> None:
    """Parse the command line, list, and remove only with --yes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    parser.add_argument("--yes", action="store_true", help="remove what is listed; otherwise nothing is changed")
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)
    if arguments.yes:
        ResultsLock(results).acquire()
    found = retention(plan, *plan_states(plan, results, [arguments.configfile]))
    print("\n".join(listing(found)))
    if not found.removable:
        return
    if not arguments.yes:
        print(
            "Nothing was removed. Results stay valid without these files; what a step with other hyper-parameters or another "
            "evaluation needs again is trained again, and so is what differs then. Other configurations that use "
            f"{results} were not looked at. To remove them: make clean-checkpoints CONFIG={arguments.configfile} YES=1"
        )
        return
    removed, refused = remove(found.removable, results)
    for line in refused:
        print(line)
    size = sum(entry.size for entry in removed)
    print(f"Removed {len(removed)} checkpoints, {size / 1e6:,.1f} MB; {results / REMOVED} lists them.")


if __name__ == "__main__":
    run(main)
