"""Run a training in several processes, on this machine or on the nodes of a SLURM job (docs/cluster.md)."""

import argparse
import os
import sys

from model.common.command_line import run
from model.workflow.several_nodes import Allocation, NodesError, run_nodes, run_on_this_node, share
from model.workflow.several_processes import run_processes


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the SLURM job that this runs in; default 1")
    parser.add_argument("--launcher", action="store_true", help="what srun starts on each node")
    parser.add_argument("count", type=int, help="processes, shared out among the nodes")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="what to run in each, with its arguments")
    return parser.parse_args()


def main() -> None:
    """Start the processes, end as they do."""
    arguments = parse_arguments()
    count, nodes, command = arguments.count, arguments.nodes, arguments.command
    if not command:
        raise NodesError("expected a number of processes and a command, not a number alone")
    each = share(count, nodes)
    if arguments.launcher:
        return run_on_this_node(command, each, os.environ)
    if nodes > 1:
        allocation = Allocation.of(os.environ, nodes)
        again = [sys.executable, os.path.abspath(__file__), "--launcher", "--nodes", str(nodes), str(count), *command]
        sys.exit(run_nodes(again, allocation, os.environ, say))
    if count == 1:
        os.execvp(command[0], command)
    sys.exit(run_processes(command, count, os.environ, say))


def say(text: str) -> None:
    """On stderr, at once."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run(main)
