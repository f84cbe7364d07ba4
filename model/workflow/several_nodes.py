"""Starting the processes of one training on several nodes of a SLURM job, and ending them together.

``srun`` starts one launcher on each node, which starts the processes of that node (:mod:`model.workflow.several_processes`) and
reports when they have started and how they ended. This process listens, shows what the first node says, and decides whose error
is that of the training. A launcher that has reported ends well, whatever it reports: ``srun --kill-on-bad-exit`` is for launchers
that are gone without a word; processes that still write the snapshot when others have stopped must not be killed.
"""

from __future__ import annotations

import math
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import IO, Any

from model.common.process_numbers import LOST
from model.workflow.several_processes import (
    GRACE,
    LOST_EACH_OTHER,
    STOP_SIGNALS,
    STOPPING,
    blamed,
    is_failure,
    run_processes,
    stopped,
)

STARTED = "processes started"
ENDED = "processes ended with "
"""What launchers report, each on a line of its own of stderr."""
LABELLED = re.compile(r"\s*(\d+): ?(.*\n?)")
"""A line of a node, as ``srun --label`` marks it."""
_INTERACTIVE = 0xFFFFFFF0
"""From here on SLURM numbers steps that have the whole job: a batch script, a shell."""
FORWARDED = signal.SIGUSR1
"""The request to stop that srun passes on; SIGTERM makes it kill all processes."""


class NodesError(ValueError):
    """Nodes that are not there, or that do not fit; the message says what was asked for."""


@dataclass(frozen=True)
class Allocation:
    """The nodes of a SLURM job.

    Attributes:
        nodes: their names. Batch scripts run on the first one.
        address: at which the others reach the first one.
    """

    nodes: tuple[str, ...]
    address: str

    @classmethod
    def of(cls, environment: Mapping[str, str], nodes: int) -> Allocation:
        """The nodes of the job that this process belongs to.

        Raises:
            NodesError: if this is no SLURM job, if it has another number of nodes, or if it cannot start processes on them.
        """
        job = environment.get("SLURM_JOB_ID")
        missing = [name for name in ("srun", "scontrol") if shutil.which(name) is None]
        if job is None or missing:
            reason = "there is no SLURM job" if job is None else f"there is no {' and no '.join(missing)}"
            raise NodesError(
                f"{nodes} nodes are asked for, but {reason} here: use a profile with 'executor: slurm', or leave 'nodes' out"
            )
        if int(environment.get("SLURM_STEP_ID", _INTERACTIVE)) < _INTERACTIVE:
            raise NodesError(
                f"{nodes} nodes are asked for, but this process is confined to a part of job {job}: set 'mpi: \"srun\"' and "
                f"'tasks: {nodes}' beside 'nodes: {nodes}' (docs/cluster.md)"
            )
        listed = _shown(r"\bNodeList=(\S+)", "job", job, "--oneliner")
        found = tuple(_shown(r"(?s)(.+)", "hostnames", listed).split())
        if len(found) != nodes:
            raise NodesError(
                f"{nodes} nodes are asked for, but job {job} has {len(found)} ({listed}): set 'nodes' to that"
            )
        return cls(found, _shown(r"\bNodeAddr=(\S+)", "node", found[0], "--oneliner"))


def _shown(pattern: str, *arguments: str) -> str:
    """What SLURM knows of a job, a node or a list of nodes."""
    done = subprocess.run(["scontrol", "show", *arguments], capture_output=True, text=True, check=False)
    found = re.search(pattern, done.stdout)
    if done.returncode or found is None:
        reason = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[0]
        raise NodesError(f"'scontrol show {' '.join(arguments)}' says: {reason}")
    return found[1]


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.create_server(("", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def run_nodes(
    launcher: Sequence[str],
    allocation: Allocation,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    grace: float = GRACE,
) -> int:
    """Run a launcher on every node.

    The first node has this process's output; what another one writes to stderr is shown if it failed first.

    Args:
        launcher: a command that calls :func:`run_on_this_node`.
        allocation: the nodes.
        environment: of the command.
        say: called with one line where a node ended without one.
        grace: seconds after the first failure until all processes are killed.

    Returns:
        The exit status: 0, that of the process that failed first, or of a stop request.
    """
    count = len(allocation.nodes)
    command = ["srun", f"--nodes={count}", f"--ntasks={count}", "--ntasks-per-node=1", "--mpi=none", "--input=none"]
    command += ["--label", "--kill-on-bad-exit=1", "--wait=0", *launcher]
    meeting = {"MASTER_ADDR": allocation.address, "MASTER_PORT": str(free_port())}
    quiet = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # of torch's store, which tells every second that it waits
    srun = subprocess.Popen(
        command, env={**quiet, **environment, **meeting}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    heard = _Heard(count)
    readers = [
        threading.Thread(target=heard.read, args=(pipe, own), daemon=True)
        for pipe, own in ((srun.stdout, sys.stdout), (srun.stderr, sys.stderr))
    ]
    for reader in readers:
        reader.start()
    with _noted() as asked:
        _wait(srun, heard, asked, grace)
    for reader in readers:
        reader.join(GRACE)
    return _judged(srun.returncode, heard, allocation, asked, say)


@dataclass
class _Heard:
    """What the nodes and srun itself have said so far."""

    count: int
    started: set[int] = field(default_factory=set)
    ended: dict[int, int] = field(default_factory=dict)
    errors: dict[int, list[str]] = field(default_factory=dict)
    of_srun: list[str] = field(default_factory=list)

    def read(self, pipe: IO[bytes], own: IO[str]) -> None:
        """Listen until the pipe is closed."""
        for line in iter(pipe.readline, b""):
            text = line.decode("utf-8", errors="replace")
            found = LABELLED.fullmatch(text)
            if found is None or int(found[1]) >= self.count:
                self.of_srun.append(text)
                continue
            node, text = int(found[1]), found[2]
            if text.rstrip() == STARTED:
                self.started.add(node)
            elif text.startswith(ENDED):
                self.ended[node] = int(text[len(ENDED) :])
            elif node == 0:
                own.write(text)
                own.flush()
            else:
                self.errors.setdefault(node, []).append(text)


def _wait(srun: subprocess.Popen[bytes], heard: _Heard, asked: list[int], grace: float) -> None:
    """Until srun has ended, which is made to after a failure."""
    ends_at, passed_on, killed = math.inf, False, False
    while srun.poll() is None:
        if asked and not passed_on and len(heard.started) == heard.count:
            srun.send_signal(FORWARDED)
            passed_on = True
        if ends_at == math.inf:
            for code in [code for code in list(heard.ended.values()) if code]:
                ends_at = min(ends_at, time.monotonic() + grace * (1.0 if is_failure(code) else STOPPING))
        if time.monotonic() > ends_at:
            if killed:
                srun.kill()
            else:
                srun.terminate()  # kills the processes of all nodes
            killed, ends_at = True, time.monotonic() + 3 * GRACE
        time.sleep(0.05)


def _judged(
    status: int, heard: _Heard, allocation: Allocation, asked: Sequence[int], say: Callable[[str], None]
) -> int:
    """The exit status, after the words of whoever is to blame."""
    silent = [name for node, name in enumerate(allocation.nodes) if node not in heard.ended]
    culprit = blamed(heard.ended)
    if culprit is not None and heard.ended[culprit] != LOST:
        sys.stderr.write("".join(heard.errors.get(culprit, [])))
        sys.stderr.flush()
        return heard.ended[culprit]
    if culprit is None and (stopped(heard.ended) or not silent):
        return 128 + asked[0] if asked and stopped(heard.ended) else stopped(heard.ended)
    if not silent:
        say(LOST_EACH_OTHER)
        return LOST
    sys.stderr.write("".join([*(line for lines in heard.errors.values() for line in lines), *heard.of_srun]))
    sys.stderr.flush()
    say(
        f"error: srun ended without a word from {', '.join(silent)}; if nothing above says why, that node may be out of memory"
    )
    return abs(status) or 1


@contextmanager
def _noted() -> Iterator[list[int]]:
    """Requests to stop that this process gets."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before: dict[Any, Any] = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run_on_this_node(command: Sequence[str], count: int, environment: Mapping[str, str]) -> None:
    """What a launcher does: run the processes of its node, and report.

    Args:
        command: with arguments.
        count: of processes on this node.
        environment: of the command, with what srun says and where the processes meet.

    Raises:
        NodesError: if srun has not started this process.
    """
    if not {"SLURM_PROCID", "SLURM_NTASKS"} <= environment.keys():
        raise NodesError("a launcher of several nodes is started by srun, not by hand: leave '--launcher' out")

    def report(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    status = run_processes(
        command,
        count,
        {key: value for key, value in environment.items() if key not in ("RANK", "WORLD_SIZE")},
        lambda text: None if text == LOST_EACH_OTHER else report(text),  # another node knows why
        node=int(environment["SLURM_PROCID"]),
        nodes=int(environment["SLURM_NTASKS"]),
        started=lambda: report(STARTED),
    )
    report(f"{ENDED}{status}")


def share(count: int, nodes: int) -> int:
    """Processes of each node.

    Raises:
        NodesError: if they cannot be shared out evenly.
    """
    if nodes < 1 or count < 1 or count % nodes:
        raise NodesError(
            f"{count} processes cannot be shared out evenly among {nodes} nodes: ask for {nodes}, {2 * nodes}, …"
        )
    return count // nodes
