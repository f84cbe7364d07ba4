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

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""Passed on to all processes, which agree on the iteration after which they stop."""
GRACE = 10.0
"""Seconds after the first failure until processes are killed that have not noticed it: they may wait for a GPU for ever."""
STOPPING = 6.0
"""So many times as long after the first process has ended because it was asked to."""


def run_processes(
    command: Sequence[str], count: int, environment: Mapping[str, str], say: Callable[[str], None], grace: float = GRACE
) -> int:
    """Run a command in several processes, numbered as torchrun does.

    The first one has this process's output; what another one writes to stderr is shown if it failed first.

    Args:
        command: with arguments.
        count: of processes.
        environment: of the command.
        say: called with one line where a process ended without one.
        grace: see :data:`GRACE`.

    Returns:
        The exit status: 0, that of the process that failed first, or of a stop request.
    """
    folder = Path(tempfile.mkdtemp(prefix="segue-processes-"))
    try:
        running = _Running([_start(command, rank, count, environment, folder) for rank in range(count)], grace)
        with _passed_on(running):
            running.wait()
        culprit = running.culprit
        if culprit is None:
            return next((code for code in running.ended.values() if code != LOST and code), 0)
        if culprit > 0:
            sys.stderr.write(_errors(folder, culprit).read_text(encoding="utf-8", errors="replace"))
            sys.stderr.flush()
        code = running.ended[culprit]
        if code == LOST:
            say(
                "error: the processes of this training have lost each other; run it again to continue from its snapshot"
            )
        elif code < 0:
            say(
                f"error: process {culprit + 1} of {count} was killed by {signal.Signals(-code).name}; if nobody did it, the "
                "machine has run out of memory: give the job more, or fewer processes"
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
                    ends_at = min(ends_at, time.monotonic() + self.grace * (1.0 if _is_failure(code) else STOPPING))
            if time.monotonic() > ends_at:
                for rank, process in enumerate(self.processes):
                    if rank not in self.ended:
                        process.kill()
                        process.wait()
                        self.ended[rank] = LOST  # not by itself
            time.sleep(0.05)

    @property
    def culprit(self) -> int | None:
        """Whose failure explains the others: who did not merely lose another one; the first process, which has spoken already."""
        failed = [rank for rank, code in self.ended.items() if _is_failure(code)]
        own = [rank for rank in failed if self.ended[rank] != LOST]
        if not own and any(code and not _is_failure(code) for code in self.ended.values()):
            return None  # one was asked to stop, outside of the iterations, and the others lost it
        return 0 if 0 in own else next(iter([*own, *failed]), None)


def _start(
    command: Sequence[str], rank: int, count: int, environment: Mapping[str, str], folder: Path
) -> subprocess.Popen[bytes]:
    numbers = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": count}
    threads = str(max(1, len(os.sched_getaffinity(0)) // count))
    changed = {
        "OMP_NUM_THREADS": threads,
        **environment,
        **{name: str(number) for name, number in numbers.items()},
        MEETING: str(folder / "meeting"),
    }
    if rank == 0:
        return subprocess.Popen(command, env=changed, close_fds=False)  # locks of GPUs are inherited
    with _errors(folder, rank).open("wb") as errors:
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


def _is_failure(code: int) -> bool:
    """Whether a process ended neither well nor because it was asked to."""
    return code not in (0, *(128 + number for number in STOP_SIGNALS))


def _status(code: int) -> int:
    return 128 - code if code < 0 else code
