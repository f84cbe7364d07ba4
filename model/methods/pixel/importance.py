"""What EWC, Path Integral and Riemannian Walk have in common: statistics of parameters, and a penalty on their movement.

The state of a method holds one entry ``<statistic>/<parameter name>`` for each trained parameter. Statistics that a step
passes on:

    fisher/…    running Fisher information, not normalised
    path/…      path-integral importance, summed over the steps
    walk/…      Riemannian-walk score, averaged half and half with that of the steps before

and while a step trains, besides: ``reference/…`` and ``penalised/…`` (where parameters stood, and how much they matter),
``delta/…``, ``start/…`` and ``previous/…`` (of the path), ``score/…`` and ``last/…`` (of the walk).

Verified against: g_regularisers (ewc*, pi*, rw*), through the methods' classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Protocol

import torch
from pydantic import Field
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.losses.importance import (
    normalised_range,
    path_importance,
    path_increment,
    quadratic_penalty,
    quadratic_penalty_gradient,
    running_fisher,
    walk_increment,
)
from model.methods.base import Context, State, StepContext
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs

Fraction = Annotated[float, Field(ge=0, le=1)]
Interval = Annotated[int, Field(ge=1)]

ITERATION = "iteration"


class ImportanceError(ValueError):
    """A step that should protect what was learnt, but has no importances."""


class Statistic(Protocol):
    """A statistic measured during a step."""

    def start(self, network: nn.Module, state: State) -> None:
        """Entries that observing needs."""

    def observe(self, network: nn.Module, state: State) -> None:
        """One optimiser step is about to be made; ``.grad`` is the gradient of the loss alone."""

    def finish(self, network: nn.Module, state: State) -> State:
        """Entries for the next step."""


@dataclass(frozen=True)
class Fisher:
    """Moving average of squared gradients; of a new parameter it starts at one."""

    newest_weight: float

    def start(self, network: nn.Module, state: State) -> None:
        for name, parameter in trained(network):
            state.setdefault(f"fisher/{name}", torch.ones_like(parameter))

    def observe(self, network: nn.Module, state: State) -> None:
        for name, _, gradient in with_gradients(network):
            state[f"fisher/{name}"] = running_fisher(state[f"fisher/{name}"], gradient, self.newest_weight)

    def finish(self, network: nn.Module, state: State) -> State:
        return entries(state, "fisher")


@dataclass(frozen=True)
class PathIntegral:
    """What each parameter's way contributed to lowering the loss, over the distance it covered in the end."""

    def start(self, network: nn.Module, state: State) -> None:
        for name, parameter in trained(network):
            state[f"delta/{name}"] = torch.zeros_like(parameter)
            state[f"start/{name}"] = parameter.detach().clone()
            state[f"previous/{name}"] = parameter.detach().clone()

    def observe(self, network: nn.Module, state: State) -> None:
        for name, parameter, gradient in with_gradients(network):
            previous = state[f"previous/{name}"]
            state[f"delta/{name}"] += path_increment(gradient, previous, parameter)
            previous.copy_(parameter)

    def finish(self, network: nn.Module, state: State) -> State:
        found: State = {}
        for name, parameter in trained(network):
            importance = path_importance(state[f"delta/{name}"], state[f"start/{name}"], parameter.detach())
            found[f"path/{name}"] = importance + state.get(f"path/{name}", 0.0)
        return found


@dataclass(frozen=True)
class Walk:
    """Score of the Riemannian walk, taken every ``interval`` optimiser steps; reads ``fisher/…`` before its update."""

    interval: int

    def start(self, network: nn.Module, state: State) -> None:
        state[ITERATION] = 0
        for name, parameter in trained(network):
            state[f"score/{name}"] = torch.zeros_like(parameter)
            state[f"last/{name}"] = parameter.detach().clone()

    def observe(self, network: nn.Module, state: State) -> None:
        if state[ITERATION] % self.interval == 0:
            for name, parameter, gradient in with_gradients(network):
                last = state[f"last/{name}"]
                state[f"score/{name}"] += walk_increment(gradient, last, parameter, state[f"fisher/{name}"])
                last.copy_(parameter)
        state[ITERATION] += 1

    def finish(self, network: nn.Module, state: State) -> State:
        found: State = {}
        for name, _ in trained(network):
            score = state[f"score/{name}"].clamp(min=0)
            earlier = state.get(f"walk/{name}")
            found[f"walk/{name}"] = score if earlier is None else 0.5 * (score + earlier)
        return found


@dataclass(frozen=True)
class Penalty:
    """What holds parameters where they were.

    Attributes:
        statistics: those of earlier steps whose sum is the importance of a parameter.
        weight: λ.
        normalise: whether each tensor of each statistic is stretched to 0 … 1 first.
    """

    statistics: tuple[str, ...]
    weight: float
    normalise: bool


def trained(network: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Parameters that train, by name."""
    return ((name, parameter) for name, parameter in network.named_parameters() if parameter.requires_grad)


def with_gradients(network: nn.Module) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Name, value and gradient of the parameters that have one."""
    return ((name, p.detach(), p.grad) for name, p in trained(network) if p.grad is not None)


def entries(state: State, statistic: str) -> State:
    """The part of the state that belongs to a statistic."""
    return {key: value for key, value in state.items() if key.startswith(f"{statistic}/")}


def start_step(statistics: Iterable[Statistic], penalty: Penalty | None, context: StepContext[PixelBatch]) -> State:
    """The state that a step starts with.

    Args:
        statistics: to be measured along the step.
        penalty: what is to be held; new parameters have no importance and move freely.
        context: of a network that has grown but not trained yet; its state is left unchanged.

    Raises:
        ImportanceError: if the previous step passed on none of the needed statistics.
    """
    network, state = context.network, context.state
    important = () if penalty is None else penalty.statistics
    if context.step.index > 0 and not all(entries(state, statistic) for statistic in important):
        raise ImportanceError(
            f"step {context.step.index}: the checkpoint of the previous step has no {' and '.join(important)}; "
            "its training must have measured it: continue from one of method 'finetuning-observed'"
        )
    started: State = {key: value.clone() for key, value in state.items()}
    for name, parameter in trained(network):
        found = [state[f"{statistic}/{name}"] for statistic in important if f"{statistic}/{name}" in state]
        if found:
            parts = [normalised_range(part) if penalty is not None and penalty.normalise else part for part in found]
            started[f"penalised/{name}"] = torch.stack(parts).sum(dim=0)
            started[f"reference/{name}"] = parameter.detach().clone()
    for statistic in statistics:
        statistic.start(network, started)
    return started


def penalised(network: nn.Module, state: State) -> Iterator[tuple[nn.Parameter, Tensor, Tensor]]:
    """Parameters that are held, their importance, and where they are held."""
    for name, parameter in trained(network):
        if f"penalised/{name}" in state:
            yield parameter, state[f"penalised/{name}"], state[f"reference/{name}"]


def penalty(network: nn.Module, state: State) -> Tensor:
    """The penalty without its weight, a scalar; for inspection, training needs its gradient alone."""
    terms = [quadratic_penalty(importance, p.detach(), where) for p, importance, where in penalised(network, state)]
    return torch.stack(terms).sum() if terms else torch.zeros(())


def penalise(weight: float, network: nn.Module, state: State) -> None:
    """Add the gradient of ``weight`` times the penalty to ``.grad``."""
    for parameter, importance, reference in penalised(network, state):
        if parameter.grad is not None:
            gradient = quadratic_penalty_gradient(importance, parameter.detach(), reference)
            parameter.grad.add_(gradient, alpha=weight)


@dataclass(frozen=True)
class ImportanceMethod(PixelMethod):
    """Base of the methods that measure statistics during a step and penalise changes of important parameters."""

    @property
    def statistics(self) -> tuple[Statistic, ...]:
        """What is measured during a step, in this order."""
        raise NotImplementedError(f"{type(self).__name__} measures nothing")

    @property
    def penalty(self) -> Penalty | None:
        """What holds the parameters; None lets them move freely."""
        return None

    def before_step(self, context: StepContext[PixelBatch]) -> State:
        return start_step(self.statistics, self.penalty, context)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, targets)}

    def after_backward(self, context: Context) -> None:
        """The statistics see the gradient of the loss alone; that of the penalty is added afterwards."""
        for statistic in self.statistics:
            statistic.observe(context.network, context.state)
        if self.penalty is not None:
            penalise(self.penalty.weight, context.network, context.state)

    def after_step(self, context: StepContext[PixelBatch]) -> State:
        found: State = {}
        for statistic in self.statistics:
            found |= statistic.finish(context.network, context.state)
        return found
