"""From "what trains in this step" to a torch optimiser."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import nn

from model.methods.base import ParameterGroup


class OptimiserError(ValueError):
    """Parameter groups that make no optimiser; the message names the parameter."""


class Uncompiled(torch.optim.Optimizer):
    """An optimiser without the wrappers that keep torch's compiler out of it.

    Nothing compiles an optimiser here, and the wrappers load the compiler at their first call: a second at the start of every
    training. What is inside them is torch's own code, unchanged.
    """

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class SGD(Uncompiled, torch.optim.SGD):
    """torch's own."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(Uncompiled, torch.optim.AdamW):
    """torch's own."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def freeze_untrained(network: nn.Module, groups: Sequence[ParameterGroup]) -> int:
    """Switch gradients on for the parameters of the groups and off for all others.

    Returns:
        The number of trainable scalars.

    Raises:
        OptimiserError: if a parameter is in two groups, is not one of the network's (it would be missing in the
            checkpoint), or if nothing trains.
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    chosen: set[int] = set()
    for parameter in _parameters(groups):
        if id(parameter) not in names:
            raise OptimiserError(
                f"a parameter of shape {tuple(parameter.shape)} is to be trained but is not one of the network's; "
                "register it in the network, or it will not be part of the checkpoint"
            )
        if id(parameter) in chosen:
            raise OptimiserError(f"parameter '{names[id(parameter)]}' is in two groups; it must be in one")
        chosen.add(id(parameter))
    if not chosen:
        raise OptimiserError("no parameter trains in this step; let 'trainable' return at least one")
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in chosen)
    return sum(parameter.numel() for parameter in _parameters(groups))


def build_optimiser(
    name: Literal["sgd", "adamw"],
    groups: Sequence[ParameterGroup],
    *,
    learning_rate: float,
    weight_decay: float,
    backbone_factor: float = 1.0,
    minimum_rate: float = 0.0,
    momentum: float = 0.9,
    nesterov: bool = True,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
) -> torch.optim.Optimizer:
    """SGD (with ``momentum``, ``nesterov``) or AdamW (with ``betas``, ``epsilon``) over parameter groups.

    Args:
        name: which optimiser.
        groups: what trains; empty groups are left out.
        learning_rate: of a group with factor 1.
        weight_decay: of every group that does not bring its own.
        backbone_factor: multiplies the rates of the groups that hold the backbone.
        minimum_rate: lower bound of the rate of every group, warm-up included; a group whose own rate is
            smaller trains at this one. SSUL and BARM have 1e-6, in their released code.

    Raises:
        OptimiserError: for an unknown name.
    """
    prepared: list[dict[str, Any]] = []
    for group in groups:
        if group.parameters:
            rate = learning_rate * group.learning_rate_factor * (backbone_factor if group.backbone else 1.0)
            decay = weight_decay if group.weight_decay is None else group.weight_decay
            members = list(group.parameters)
            prepared.append(
                {"params": members, "lr": rate, "initial_lr": rate, "minimum_lr": minimum_rate, "weight_decay": decay}
            )
    # Fused updates pass over memory once: on one core AdamW takes a twentieth of the time of the plain formulation.
    if name == "sgd":
        return SGD(prepared, lr=learning_rate, momentum=momentum, nesterov=nesterov, fused=True)
    if name == "adamw":
        return AdamW(prepared, lr=learning_rate, betas=betas, eps=epsilon, fused=True)
    raise OptimiserError(f"there is no optimiser '{name}'; choose sgd or adamw")


def set_learning_rates(optimiser: torch.optim.Optimizer, factor: float) -> None:
    """Set the rate of every group to the factor times its own initial rate, but not below its minimum."""
    for group in optimiser.param_groups:
        group["lr"] = max(group["minimum_lr"], group["initial_lr"] * factor)


def optimised_parameters(optimiser: torch.optim.Optimizer) -> list[nn.Parameter]:
    """All parameters of an optimiser, in its order."""
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _parameters(groups: Sequence[ParameterGroup]) -> Iterator[nn.Parameter]:
    for group in groups:
        yield from group.parameters
