"""What this machine computes with, found out without torch, which takes seconds to load."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

_NVIDIA = Path("/proc/driver/nvidia/gpus")


def cpu_model() -> str:
    """The processor's marketing name, or the architecture where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def gpu_models(driver: Path = _NVIDIA) -> tuple[str, ...]:
    """Names of the installed NVIDIA GPUs without repetition, as torch gives them.

    Args:
        driver: folder in which the driver describes its cards; where there is none, ``nvidia-smi`` is asked.
    """
    found = []
    for file in sorted(driver.glob("*/information")):
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [line.split(":", 1)[1].strip() for line in lines if line.startswith("Model:")]
    if not found and shutil.which("nvidia-smi") is not None:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return ()
        found = [line.strip() for line in asked.stdout.splitlines()] if asked.returncode == 0 else []
    return tuple(dict.fromkeys(filter(None, found)))
