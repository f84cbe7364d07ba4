"""Where randomness comes from: one seed of the experiment, and named sub-seeds that do not disturb each other.

Initialisation, sampling and the training's own draws each get a seed of their own. Adding a draw to one of them leaves
the others as they were, and two methods with equal seeds see equal images in equal order.
"""

from __future__ import annotations

import random

import numpy as np
import torch


def sub_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A 63-bit seed for one purpose in one step.

    Raises:
        ValueError: for a negative seed or step.
    """
    if seed < 0 or step < 0:
        raise ValueError(f"seed and step count from 0, not {seed} and {step}")
    sequence = np.random.SeedSequence([seed, step, *purpose.encode()])
    return int(sequence.generate_state(1, np.uint64)[0] >> np.uint64(1))


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy's global generator, and torch on every device."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)  # seeds CUDA as well, now or when it is first used


def configure_numerics(device: torch.device, threads: int | None = None, tf32: bool = False) -> None:
    """Make CPU training repeat bit for bit; let CUDA choose its fastest kernels.

    Args:
        device: where the network will live.
        threads: intra-op threads. They belong to the recipe because sums are split by them; None keeps torch's choice.
        tf32: whether CUDA may compute single-precision matrix products and convolutions with ten bits of mantissa.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    on_cpu = device.type == "cpu"
    # Does what use_deterministic_algorithms does, which also loads the compiler to tell it so: a second of every training.
    torch.set_deterministic_debug_mode("error" if on_cpu else "default")
    # Filling fresh memory finds reads of uninitialised tensors; it costs time and changes no result of correct code.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not on_cpu
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32  # torch's own choice is to allow it here alone
