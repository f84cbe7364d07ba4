"""What a training records about itself: everything needed to say later how a number came about."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from model.common.hardware import cpu_model

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "snakemake")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results may depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def machine(device: torch.device) -> dict[str, Any]:
    """Where this process runs: device, processor, threads, the compiled op if used, and what SLURM or the workflow assigned."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if device.type == "cuda" else None,
        "ops": op_implementation(),
        "visible_gpus": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def op_implementation() -> str | None:
    """Which implementation of the deformable attention this process uses; None if nothing asked for it."""
    library = sys.modules.get("ops.library")  # not imported here: that would load, and warn about, what is not needed
    return None if library is None else str(library.IMPLEMENTATION.describe())


def git_state(folder: Path) -> dict[str, Any]:
    """Revision of the working tree and whether tracked files differ from it; None for both outside a repository."""
    revision = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def peak_memory(device: torch.device) -> dict[str, int]:
    """Largest resident memory of this process and, on a GPU, largest allocation there; in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # Linux reports kilobytes, macOS bytes
    peak = {"resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peak["gpu_bytes"] = torch.cuda.max_memory_allocated(device)
    return peak


def now() -> str:
    """The time in UTC, to the second, in ISO format."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        result = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() if result.returncode == 0 else None
