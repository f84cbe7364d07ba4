"""Run a command with GPUs of its own: ``assign_gpus.py COUNT COMMAND …``. SEGUE_GPUS=0,1 names the GPUs to share out."""

import os
import sys

from model.common.command_line import run
from model.workflow.gpu_assignment import GpuAssignmentError, execute


def main() -> None:
    """Read the number of GPUs, take them, become the command."""
    if len(sys.argv) < 3 or not sys.argv[1].isdecimal():
        raise GpuAssignmentError(
            f"expected a number of GPUs and a command, not {' '.join(sys.argv[1:]) or 'nothing'!r}"
        )
    execute(sys.argv[2:], int(sys.argv[1]), os.environ, lambda text: print(text, file=sys.stderr, flush=True))


if __name__ == "__main__":
    run(main)
