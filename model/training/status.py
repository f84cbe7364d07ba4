"""How far a running training is, in a small file in its work folder that `make progress` reads.

The file takes no part in a result: it is written beside the snapshots, is gone when the training has finished, and training
continues if it cannot be written. It names the process, so that a reader on the same machine sees whether it still runs.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

STATUS = "progress.json"
"""Name of the file in the work folder."""


@dataclass(frozen=True)
class Status:
    """A training that was running when this was written.

    Attributes:
        host: name of the machine.
        process: number of the process there.
        created: when the process began, in seconds since the epoch; tells it from a later one of the same number.
        written: when this was written, likewise.
        device: name of the GPU, or ``cpu``.
        processes: that train together.
        slurm_job: number of the SLURM job, or None.
        iteration: iterations done; None while data and network are prepared.
        iterations: in all; None likewise.
        rate: iterations a second, lately.
        left: seconds until the last iteration, if it continues like this.
    """

    host: str
    process: int
    created: float
    written: float
    device: str
    processes: int = 1
    slurm_job: str | None = None
    iteration: int | None = None
    iterations: int | None = None
    rate: float | None = None
    left: float | None = None


class StatusFile:
    """Writes the status of this process.

    Args:
        folder: work folder of the training; made if needed.
        device: name of the GPU, or ``cpu``.
        processes: that train together.
        environment: that may name a SLURM job.
    """

    def __init__(self, folder: Path, device: str, processes: int, environment: Mapping[str, str] = os.environ) -> None:
        self._file = folder / STATUS
        self._process: dict[str, Any] = {
            "host": platform.node(),
            "process": os.getpid(),
            "created": psutil.Process().create_time(),
            "device": device,
            "processes": processes,
            "slurm_job": environment.get("SLURM_JOB_ID"),
        }

    def write(self, **progress: float) -> None:
        """Replace what was written before.

        Args:
            progress: ``iteration``, ``iterations``, ``rate`` and ``left`` of :class:`Status`.
        """
        # Without waiting for the disk: a status matters as long as the process that wrote it lives.
        part = self._file.with_suffix(f".{os.getpid()}.part")
        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            part.write_text(json.dumps({**self._process, "written": time.time(), **progress}), encoding="ascii")
            part.replace(self._file)

    def remove(self) -> None:
        """The training has finished."""
        with suppress(OSError):
            self._file.unlink(missing_ok=True)


def read_status(folder: Path) -> Status | None:
    """The last status that a training wrote to its work folder; None if there is none."""
    try:
        return Status(**json.loads((folder / STATUS).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None


def is_running(host: str, process: int, created: float) -> bool | None:
    """Whether a process still runs; None if it is on another machine, where nobody can tell.

    Args:
        host: name of its machine.
        process: its number.
        created: when it began, in seconds since the epoch; a process that began later is another one.
    """
    if host != platform.node():
        return None
    try:
        found = psutil.Process(process)
        return found.create_time() <= created + 2 and found.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
