"""Which GPU a job gets on a workstation.

Snakemake counts GPUs but does not assign a particular one to a job, so two jobs would share the first one. An assignment is an
exclusive lock on a file named after the card. The command inherits the open file: however it ends, the operating system
gives the card back. On a cluster SLURM has already chosen, and nothing is done.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

POOL = "SEGUE_GPUS"
"""Environment variable with the GPUs to assign, separated by commas; empty for none. Tests name GPUs that do not exist."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


class GpuAssignmentError(ValueError):
    """An assignment that can never be had, or a folder for locks that is not ours."""


def gpu_pool(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The GPUs to share out: ``SEGUE_GPUS``, else an outer ``CUDA_VISIBLE_DEVICES``, else every card of this machine."""
    for name in (POOL, VISIBLE):
        if name in environment:
            return tuple(filter(None, (gpu.strip() for gpu in environment[name].split(","))))
    return _installed()


def may_be_there() -> bool:
    """Whether a driver for GPUs is loaded; without one there is no need to ask torch, which takes seconds."""
    return (
        any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")) or sys.platform != "linux"
    )


def lock_folder() -> Path:
    """The folder of this user's locks, the same for all workflows on the machine.

    Raises:
        GpuAssignmentError: if the folder belongs to another user.
    """
    folder = Path(tempfile.gettempdir()) / f"segue-gpus-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        raise GpuAssignmentError(f"{folder}: belongs to another user; remove it, or let TMPDIR name another folder")
    return folder


@dataclass(frozen=True)
class GpuAssignment:
    """GPUs held by this process, and by what it executes.

    Attributes:
        gpus: as CUDA_VISIBLE_DEVICES names them.
        descriptors: open lock files, one a GPU.
    """

    gpus: tuple[str, ...]
    descriptors: tuple[int, ...]

    def release(self) -> None:
        """Give the GPUs back."""
        for descriptor in self.descriptors:
            os.close(descriptor)


def try_assign(pool: Sequence[str], count: int, folder: Path) -> GpuAssignment | None:
    """Take ``count`` free GPUs of the pool, or none at all: a part of what a job needs would only keep others waiting."""
    gpus: list[str] = []
    descriptors: list[int] = []
    for gpu in pool:
        if len(gpus) == count:
            break
        descriptor = os.open(folder / f"{quote(gpu, safe='')}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        # Not filelock: the open file itself is handed on to the command that this process becomes, and the lock with it.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            continue
        gpus.append(gpu)
        descriptors.append(descriptor)
    assignment = GpuAssignment(tuple(gpus), tuple(descriptors))
    if len(gpus) == count:
        return assignment
    assignment.release()
    return None


def wait_for_gpus(
    pool: Sequence[str],
    count: int,
    folder: Path,
    *,
    say: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
) -> GpuAssignment:
    """Take ``count`` GPUs as soon as that many are free.

    Args:
        pool: GPUs to choose from.
        count: how many.
        folder: of the lock files.
        say: called once if there is something to wait for.
        sleep: between two attempts.

    Raises:
        GpuAssignmentError: if the pool does not have that many.
    """
    if count > len(set(pool)):
        raise GpuAssignmentError(
            f"{count} GPUs are asked for, but there are {len(set(pool))} to share out ({', '.join(pool)}); "
            f"ask for fewer, or let {POOL} name more"
        )
    waited = False
    while (assignment := try_assign(pool, count, folder)) is None:
        if not waited:
            say(f"waiting for {count} of the GPUs {', '.join(pool)}")
            waited = True
        sleep(0.5)
    return assignment


def execute(command: Sequence[str], count: int, environment: Mapping[str, str], say: Callable[[str], None]) -> None:
    """Replace this process by the command, with ``count`` GPUs of its own; never returns.

    Nothing is assigned for 0 GPUs, inside a SLURM job, and on a machine without a GPU.

    Raises:
        GpuAssignmentError: if the assignment can never be had.
        OSError: if the command cannot be executed.
    """
    changed = dict(environment)
    pool = gpu_pool(environment) if count > 0 and "SLURM_JOB_ID" not in environment else ()
    if pool:
        assignment = wait_for_gpus(pool, count, lock_folder(), say=say)
        for descriptor in assignment.descriptors:
            os.set_inheritable(descriptor, True)
        changed[VISIBLE] = ",".join(assignment.gpus)
        if POOL not in environment and VISIBLE not in environment:
            changed.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")  # the order that nvidia-smi counts in
    os.execvpe(command[0], list(command), changed)


def _installed() -> tuple[str, ...]:
    """Numbers of the GPUs that the driver reports; none without a driver."""
    if shutil.which("nvidia-smi") is None:
        return ()
    with suppress(OSError, subprocess.SubprocessError):
        command = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return tuple(listed.stdout.split())
    return ()
