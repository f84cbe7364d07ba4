"""What would be made again, why, and what it cost when it was made. Nothing is executed."""

import argparse
import sys
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.workflow.changes import everything
from model.workflow.plan import Plan
from model.workflow.reports_folder import plan_states


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"))
    arguments = parser.parse_args()
    plan = Plan(load_config(arguments.configfile))
    results = Path(plan.config.results)
    jobs, states = plan_states(
        plan, results, [arguments.configfile], say=lambda text: print(text, file=sys.stderr, flush=True)
    )
    print("\n".join(everything(jobs, states)))


if __name__ == "__main__":
    run(main)
