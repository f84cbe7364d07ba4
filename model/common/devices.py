"""Where a command runs, and how its tensors get there."""

from __future__ import annotations

import os

import torch
from torch import Tensor


def choose_device(name: str, number: int = 0) -> torch.device:
    """The device of this name; ``auto`` is a GPU if there is one.

    Args:
        name: auto, cpu or cuda.
        number: which GPU of those that this process sees; the others of several processes take the rest.

    Raises:
        ValueError: if a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("--device cuda: no GPU is available; use cpu, or auto to use what is there")
    if not available or name == "cpu":
        return torch.device("cpu")
    if number == 0:
        return torch.device("cuda")
    if number >= torch.cuda.device_count():
        raise ValueError(
            f"process {number + 1} of this training has no GPU of its own: there are {torch.cuda.device_count()}; "
            "ask for as many GPUs as processes"
        )
    torch.cuda.set_device(number)
    return torch.device("cuda", number)


def choose_workers(asked: int | None, device: torch.device) -> int:
    """Processes that read images, as many as this job may use; they have no effect on the result."""
    if asked is not None:
        return asked
    here = int(
        os.environ.get("LOCAL_WORLD_SIZE", "1")
    )  # processes of this training on this machine, which share its cores
    return 0 if device.type == "cpu" else max(1, min(8, len(os.sched_getaffinity(0)) // here))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device; copied from page-locked memory, so that the host does not wait for the device."""
    return tensor if device.type == "cpu" else tensor.pin_memory().to(device, non_blocking=True)
