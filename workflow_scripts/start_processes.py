"""Run a training in several processes on this machine: ``start_processes.py COUNT COMMAND …``."""

import os
import sys

from model.common.command_line import run
from model.workflow.several_processes import run_processes


class StartError(ValueError):
    """Arguments that start nothing."""


def main() -> None:
    """Read the number of processes, run them, end as they do."""
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal() or sys.argv[1] == "0":
        raise StartError(f"expected a number of processes and a command, not {' '.join(sys.argv[1:]) or 'nothing'!r}")
    count, command = int(sys.argv[1]), sys.argv[2:]
    if count == 1:
        os.execvp(command[0], command)
    sys.exit(run_processes(command, count, os.environ, lambda text: print(text, file=sys.stderr, flush=True)))


if __name__ == "__main__":
    run(main)
