"""A forward and backward pass over one batch, and what is checked of the terms that a method returns."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import reduce
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from model.methods.base import Context, Method
from model.training.readings import TrainingError

Precision = Literal["fp32", "fp16", "bf16"]
Terms = dict[str, Tensor]


class BatchPass(Protocol):
    """How a batch passes the network, forward and backward."""

    def __call__(
        self,
        context: Context,
        method: Method[Any, Any],
        batch: Any,
        precision: Precision,
        scaled: Callable[[Tensor], Tensor],
    ) -> tuple[Terms, tuple[str, ...]]:
        """Add the gradient of the scaled sum of the loss terms to the parameters; the terms, and the names of the images."""


def whole_pass(
    context: Context,
    method: Method[Any, Any],
    batch: Any,
    precision: Precision,
    scaled: Callable[[Tensor], Tensor],
) -> tuple[Terms, tuple[str, ...]]:
    """All images at once, in this process.

    Raises:
        TrainingError: if a term is no scalar, or if there is none.
    """
    with autocast(context.device, precision):
        terms = _whole_terms(context, method, batch)
        total = reduce(torch.add, terms.values())
    scaled(total).backward()
    return terms, batch.names


def _whole_terms(context: Context, method: Method[Any, Any], batch: Any) -> Terms:
    """A function of its own, so that outputs are not kept through the backward pass."""
    old_outputs = outputs_of_old_model(context, batch)
    outputs = method.forward(context, batch, old_outputs)
    return loss_terms(context, method, batch, outputs, old_outputs)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The precision of forward passes and losses."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.float16 if precision == "fp16" else torch.bfloat16)


def outputs_of_old_model(context: Context, batch: Any) -> Any:
    """What the old model says about a batch; None if the method does without."""
    if context.old_model is None:
        return None
    with torch.no_grad():
        return context.old_model(batch.images)


def loss_terms(context: Context, method: Method[Any, Any], batch: Any, outputs: Any, old_outputs: Any) -> Terms:
    """The terms of a batch.

    Raises:
        TrainingError: if a term is no scalar, or if there is none.
    """
    targets = method.targets(context, batch, old_outputs)
    terms = method.losses(context, batch, outputs, old_outputs, targets)
    if not terms:
        raise TrainingError(f"{type(method).__name__} returned no loss term")
    for name, term in terms.items():
        if not isinstance(term, Tensor) or term.dim() != 0:
            shape = tuple(term.shape) if isinstance(term, Tensor) else type(term).__name__
            raise TrainingError(f"{type(method).__name__}: the loss term '{name}' must be a scalar tensor, not {shape}")
    return terms
