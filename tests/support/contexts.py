"""Contexts for hooks that a test calls by itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from model.methods.base import StepContext
from model.scenario import Step


def alone(tensor: Tensor, reduction: str) -> Tensor:
    """What reducing means in a training of one process."""
    return tensor


def step_context(step: Step, network: Any = None, **values: Any) -> StepContext[Any]:
    """The context of the first of ten iterations, two of which are an epoch; ``values`` replace what a test needs otherwise.

    Args:
        step: classes learnt before and now.
        network: in training.
        values: fields of :class:`~model.methods.base.StepContext`; ``batches`` may be a list.
    """
    batches = values.pop("batches", ())
    if isinstance(batches, Iterable):
        passed = batches
        batches = lambda: iter(passed)  # noqa: E731
    fields = {
        "setting": "overlapped",
        "iteration": 0,
        "iterations": 10,
        "iterations_per_epoch": 2,
        "old_model": None,
        "state": {},
        "device": torch.device("cpu"),
        "reduce": alone,
        "learning_rate": 0.1,
        **values,
    }
    return StepContext(step=step, network=network, batches=batches, **fields)
