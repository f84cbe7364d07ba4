"""Where a command runs, and how its tensors get there."""

from __future__ import annotations

import os

import torch
from torch import Tensor


def choose_device(name: str) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one.

    Raises:
        ValueError: if a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("--device cuda: no GPU is available; use cpu, or auto to use what is there")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def choose_workers(asked: int | None, device: torch.device) -> int:
    """Processes that read images, as many as this job may use; they have no effect on the result."""
    if asked is not None:
        return asked
    return 0 if device.type == "cpu" else min(8, len(os.sched_getaffinity(0)))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; copied from page-locked memory, so that the host does not wait for the device."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
