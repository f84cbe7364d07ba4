"""Starting the processes of one training on this machine, and ending them together.

torchrun does the same and may be used in its place. The rules do not use it because it kills a training 30 seconds after passing
on a request to stop, whether the snapshot has been written or not, and buries the error of a process under its own report.
"""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from model.common.process_numbers import LOST, MEETING

LOST_EACH_OTHER = (
    "error: the processes of this training have lost each other; run it again to continue from its snapshot"
)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Passed on to all processes, which agree on the iteration after which they stop."""
GRACE = 10.0
"""Seconds after the first failure until processes are killed that have not noticed it: they may wait for a GPU for ever."""
STOPPING = 6.0
"""So many times as long after the first process has ended because it was asked to."""


def run_processes(
    command: Sequence[str],
    count: int,
    environment: Mapping[str, str],
    say: Callable[[str], None],
    grace: float = GRACE,
    node: int = 0,
    nodes: int = 1,
    started: Callable[[], None] = lambda: None,
) -> int:
    """Run a command in several processes, numbered as torchrun does.

    The first one has this process's output; what another one writes to stderr is shown if it failed first.

    Args:
        command: with arguments.
        count: of processes on this machine.
        environment: of the command; among several machines it says where their processes meet.
        say: called with one line where a process ended without one.
        grace: see :data:`GRACE`.
        node: number of this machine, from 0.
        nodes: machines with as many processes each.
        started: called as soon as a request to stop reaches all processes of this machine.

    Returns:
        The exit status: 0, that of the process that failed first, or of a stop request.
    """
    folder = Path(tempfile.mkdtemp(prefix="segue-processes-"))
    try:
        places = [_Place(rank, count, node, nodes) for rank in range(count)]
        running = _Running([_start(command, place, environment, folder) for place in places], grace)
        with _passed_on(running):
            started()
            running.wait()
        culprit = blamed(running.ended)
        if culprit is None:
            return stopped(running.ended)
        if not places[culprit].speaks:
            sys.stderr.write(_errors(folder, culprit).read_text(encoding="utf-8", errors="replace"))
            sys.stderr.flush()
        code = running.ended[culprit]
        if code == LOST:
            say(LOST_EACH_OTHER)
        elif code < 0:
            say(
                f"error: process {places[culprit].rank + 1} of {count * nodes} was killed by {signal.Signals(-code).name}; "
                "if nobody did it, the machine has run out of memory: give the job more, or fewer processes"
            )
        return _status(code)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class _Running:
    """Processes, and how those ended that have, in that order."""

    processes: list[subprocess.Popen[bytes]]
    grace: float
    ended: dict[int, int] = field(default_factory=dict)

    def wait(self) -> None:
        """Until all have ended; those that do not after a failure are killed."""
        ends_at = math.inf
        while len(self.ended) < len(self.processes):
            for rank, process in enumerate(self.processes):
                if rank not in self.ended and process.poll() is not None:
                    self.ended[rank] = process.returncode
            for code in self.ended.values() if ends_at == math.inf else ():
                if code:
                    ends_at = min(ends_at, time.monotonic() + self.grace * (1.0 if is_failure(code) else STOPPING))
            if time.monotonic() > ends_at:
                for rank, process in enumerate(self.processes):
                    if rank not in self.ended:
                        process.kill()
                        process.wait()
                        self.ended[rank] = LOST  # not by itself
            time.sleep(0.05)


@dataclass(frozen=True)
class _Place:
    """Of a process among all."""

    local: int
    local_count: int
    node: int
    nodes: int

    @property
    def rank(self) -> int:
        return self.node * self.local_count + self.local

    @property
    def speaks(self) -> bool:
        """Whether it has the output of the whole training."""
        return self.rank == 0


def blamed(ended: Mapping[int, int]) -> int | None:
    """Whose failure explains the others: who did not merely lose another one; the first process, which has spoken already.

    Args:
        ended: number of each process to its exit status, in the order in which they ended.
    """
    failed = [rank for rank, code in ended.items() if is_failure(code)]
    own = [rank for rank in failed if ended[rank] != LOST]
    if not own and any(code and not is_failure(code) for code in ended.values()):
        return None  # one was asked to stop, outside of the iterations, and the others lost it
    return 0 if 0 in own else next(iter([*own, *failed]), None)


def stopped(ended: Mapping[int, int]) -> int:
    """The exit status of processes of which none is to blame: 0, or that of a request to stop."""
    return next((code for code in ended.values() if code != LOST and code), 0)


def _start(
    command: Sequence[str], place: _Place, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    numbers = {
        "RANK": place.rank,
        "WORLD_SIZE": place.local_count * place.nodes,
        "LOCAL_RANK": place.local,
        "LOCAL_WORLD_SIZE": place.local_count,
    }
    threads = str(max(1, len(os.sched_getaffinity(0)) // place.local_count))
    changed = {
        "OMP_NUM_THREADS": threads,
        **{name: value for name, value in environment.items() if name != MEETING},
        **{name: str(number) for name, number in numbers.items()},
        **({MEETING: str(folder / "meeting")} if place.nodes == 1 else {}),
    }
    if place.speaks:
        return subprocess.Popen(command, env=changed, close_fds=False)  # locks of GPUs are inherited
    with _errors(folder, place.local).open("wb") as errors:
        return subprocess.Popen(command, env=changed, close_fds=False, stdout=subprocess.DEVNULL, stderr=errors)


def _errors(folder: Path, rank: int) -> Path:
    return folder / f"errors{rank}"


@contextmanager
def _passed_on(running: _Running) -> Iterator[None]:
    """Pass requests to stop on to all processes."""

    def stop(number: int, frame: FrameType | None) -> None:
        for rank, process in enumerate(running.processes):
            if rank not in running.ended:
                process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def is_failure(code: int) -> bool:
    """Whether a process ended neither well nor because it was asked to."""
    return code not in (0, *(128 + number for number in STOP_SIGNALS))


def _status(code: int) -> int:
    return 128 - code if code < 0 else code
