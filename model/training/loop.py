"""The training loop of one step, shared by every method and every family of networks.

It calls the hooks of a method in the order that :mod:`model.methods.base` promises, and owns what no method touches:
the backward pass, mixed precision, accumulation, clipping, the optimiser and the schedule. It knows no method by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from model.methods.base import Method, StepContext
from model.scenario import Step
from model.training.optimiser import optimised_parameters, set_learning_rates
from model.training.passes import BatchPass, Precision, whole_pass
from model.training.readings import Iteration, Pass, TrainingError, on_the_way
from model.training.schedule import Schedule

MAX_SKIPPED = 32
"""fp16 updates skipped in a row before training gives up; halving the scale from 2^16 that often goes far below 1."""


class Reporter(Protocol):
    """Receives the progress of training."""

    def iteration(self, iteration: int, learning_rate: float, terms: Mapping[str, float]) -> None:
        """One optimiser step is done: its number from 1, the rate of the first group, each term and their ``total``."""


def train(
    context: StepContext[Any],
    *,
    method: Method[Any, Any],
    batches: Iterator[Any],
    optimiser: torch.optim.Optimizer,
    schedule: Schedule,
    reporter: Reporter,
    scaler: torch.amp.GradScaler,
    accumulate: int = 1,
    clip_norm: float | None = None,
    precision: Precision = "fp32",
    evaluation_modules: Sequence[nn.Module] = (),
    after_iteration: Callable[[int, Callable[[], object]], None] | None = None,
    batch_pass: BatchPass = whole_pass,
    add_gradients: Callable[[Sequence[nn.Parameter]], None] | None = None,
) -> None:
    """Train ``context.network`` in place from ``context.iteration`` to ``context.iterations``.

    Args:
        context: networks on ``context.device``, where batches are moved to; hooks change its state in place.
        method: its hooks from ``forward`` to ``after_update`` are called.
        batches: yields at least ``accumulate`` batches an iteration.
        optimiser: every group holds its ``initial_lr``.
        schedule: factor of the learning rates for an iteration, from 0.
        reporter: called for every iteration; if another device than the CPU trains, while the next iteration runs.
        scaler: of :func:`gradient_scaler`.
        accumulate: batches whose mean loss one optimiser step follows.
        clip_norm: largest global L2 norm of the gradient; None does not clip.
        precision: of the forward passes and the losses.
        evaluation_modules: kept in evaluation mode.
        after_iteration: called with the number of iterations done, and with a function to be called before anything is kept
            of them: it waits for numbers still on their way from the device, and raises if the last iteration went wrong.
        batch_pass: how a batch passes the network.
        add_gradients: adds up the gradients of several processes; None with one.

    Raises:
        TrainingError: for a loss term or gradient that is not finite, a term that is not a scalar, or too few batches.
    """
    parameters = optimised_parameters(optimiser)
    step, device, iterations = context.step, context.device, context.iterations
    set_training_mode(context.network, evaluation_modules)
    late = device.type != "cpu" and not scaler.is_enabled() and _refuses_by_itself(optimiser)
    skipped = 0
    unread: Iteration | None = None

    def settle() -> bool:
        """Read the numbers that are unread, and report them; whether their gradient was finite."""
        nonlocal skipped, unread
        if unread is None:
            return True
        read, unread = unread, None
        norm = read.checked_norm()
        skipped = 0 if math.isfinite(norm) else skipped + 1
        if skipped:
            _refuse_non_finite_gradient(norm, skipped, scaler, read)
        reporter.iteration(read.number, read.learning_rate, read.means())
        return not skipped

    def scaled(total: Tensor) -> Tensor:
        return scaler.scale(total / accumulate)

    for iteration in range(context.iteration, iterations):
        context = replace(context, iteration=iteration)
        set_learning_rates(optimiser, schedule(iteration))
        optimiser.zero_grad(set_to_none=True)
        passes = []
        try:
            for _ in range(accumulate):
                batch = _next_batch(batches, step, iteration, iterations).to(device, non_blocking=device.type != "cpu")
                terms, names = batch_pass(context, method, batch, precision, scaled)
                values = torch.stack([term.detach().float() for term in terms.values()])
                passes.append(Pass(tuple(terms), values, names))
        except ValueError:
            settle()  # what went wrong before explains more
            raise
        if add_gradients is not None:
            add_gradients(parameters)
        scaler.unscale_(optimiser)
        norm = _gradient_norm(parameters)
        where = f"step {step.index}, iteration {iteration + 1} of {iterations}"
        numbers = on_the_way([*(p.values for p in passes), norm])
        settle()
        unread = Iteration(iteration + 1, where, optimiser.param_groups[0]["lr"], passes, numbers)
        if late:
            optimiser.found_inf = (~numbers.good).float()  # type: ignore[attr-defined]  # the update is then left out
        if late or settle():
            method.after_backward(context)
            if clip_norm is not None:
                _clip(method, parameters, clip_norm, norm)
            scaler.step(optimiser)
            method.after_update(context)
        scaler.update()
        if after_iteration is not None:
            after_iteration(iteration + 1, settle)
    settle()


def gradient_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Loss scaling for fp16; a pass-through otherwise."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def set_training_mode(network: nn.Module, evaluation_modules: Sequence[nn.Module]) -> None:
    """Everything trains, except the modules that a method keeps in evaluation mode."""
    network.train()
    for module in evaluation_modules:
        module.eval()


def _next_batch(batches: Iterator[Any], step: Step, iteration: int, iterations: int) -> Any:
    try:
        return next(batches)
    except StopIteration:
        raise TrainingError(
            f"step {step.index}: the batches ran out after {iteration} of {iterations} iterations; "
            "the loader must last as long as training does"
        ) from None


def _refuses_by_itself(optimiser: torch.optim.Optimizer) -> bool:
    """Whether the device can leave out an update that is not finite before the host knows about it."""
    return all(group.get("fused") for group in optimiser.param_groups)


def _gradient_norm(parameters: Sequence[nn.Parameter]) -> Tensor:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    return nn.utils.get_total_norm(gradients) if gradients else torch.zeros(())


def _clip(method: Method[Any, Any], parameters: Sequence[nn.Parameter], largest: float, norm: Tensor) -> None:
    """Clip the gradient, whose norm is known unless a hook has changed it."""
    if type(method).after_backward is Method.after_backward:
        nn.utils.clip_grads_with_norm_(parameters, largest, norm)
    else:
        nn.utils.clip_grad_norm_(parameters, largest)


def _refuse_non_finite_gradient(norm: float, skipped: int, scaler: torch.amp.GradScaler, read: Iteration) -> None:
    """In fp16 a gradient that overflows is skipped and the scale halved; in other precisions it is an error at once."""
    images = ", ".join(name for p in read.passes for name in p.images)
    if not scaler.is_enabled():
        raise TrainingError(
            f"{read.where}: every loss term is finite, but the gradient norm is {norm}; images: {images}. "
            "Lower the learning rate, or look for a square root, logarithm or division at zero in the loss"
        )
    if skipped >= MAX_SKIPPED:
        raise TrainingError(
            f"{read.where}: the fp16 gradient was not finite for {skipped} iterations in a row, the last with a loss "
            f"scale of {scaler.get_scale():g}; images: {images}. Train in bf16 or fp32"
        )
