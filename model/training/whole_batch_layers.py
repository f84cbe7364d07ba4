"""Layers that see the batch as a whole, in a network that sees a part of it: batch normalisation and dropout.

While the context of :func:`whole_batch_layers` lasts, batch normalisation in training mode takes mean and variance over the
images of all processes, as synchronised batch normalisation does, and dropout draws for the whole batch and takes the rows of
its images. Names and types of the layers stay, so that nothing else notices. On GPUs, dropout in one process draws other numbers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules._functions import SyncBatchNorm as FusedSyncBatchNorm

from model.training.processes import Processes
from model.training.split_pass import SplitError, SplitPass

_ACTIVATED = ("drop", "act")
"""What timm's normalisation layers do besides, in this order."""


def refuse_batch_statistics(network: nn.Module, evaluation_modules: Sequence[nn.Module], micro_batch: int) -> None:
    """Whether a network can see a batch in smaller passes one after another.

    Raises:
        SplitError: naming a layer that normalises over the batch in training.
    """
    still = {id(module) for kept in evaluation_modules for module in kept.modules()}
    for name, module in network.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and id(module) not in still:
            raise SplitError(
                f"micro_batch {micro_batch} would change the result: in training '{name}' normalises over the images of a pass; "
                "leave micro_batch out and use more GPUs, or take a recipe whose normalisation is frozen"
            )


@contextmanager
def whole_batch_layers(network: nn.Module, split: SplitPass) -> Iterator[None]:
    """Let a network's layers see the whole batch that a split pass is a part of.

    Raises:
        SplitError: for a kind of layer that does something else with the batch, or draws at random by itself.
    """
    changed = []
    try:
        for name, module in network.named_modules():
            forward = _replacement(name, module, split)
            if forward is not None:
                module.forward = forward
                changed.append(module)
        yield
    finally:
        for module in changed:
            del module.forward  # that of its class shows again


def _replacement(name: str, module: nn.Module, split: SplitPass) -> Any:
    if isinstance(module, nn.Dropout):
        return partial(_drop, module, split) if module.p > 0 else None
    if isinstance(module, nn.modules.batchnorm._BatchNorm) and split.processes is not None:
        return partial(_normalise, module, split.processes)
    if isinstance(module, nn.modules.dropout._DropoutNd) or type(module).__name__ == "DropPath":
        rate = getattr(module, "p", getattr(module, "drop_prob", 0.0))
        if rate:
            raise SplitError(
                f"'{name}' ({type(module).__name__}) draws for the images of a pass alone: train with one process and without "
                "micro_batch"
            )
    return None


def _drop(module: nn.Dropout, split: SplitPass, x: Tensor) -> Tensor:
    part = split.part
    if not module.training or part is None or not len(x):
        return type(module).forward(module, x)
    # in the order in which torch would draw for the whole batch on a CPU
    channels_last = x.dim() == 4 and not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    noise = torch.empty((part.whole, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=layout)
    return x * noise.bernoulli_(1 - module.p).div_(1 - module.p)[part.rows]


def _normalise(module: Any, processes: Processes, x: Tensor) -> Tensor:
    if not module.training:
        normalised: Tensor = type(module).forward(module, x)
        return normalised
    running = module.track_running_stats
    momentum = module.momentum
    if running:
        module.num_batches_tracked.add_(1)
        momentum = 1.0 / float(module.num_batches_tracked) if momentum is None else momentum
    mean, variance = (module.running_mean, module.running_var) if running else (None, None)
    if x.is_cuda:
        y = FusedSyncBatchNorm.apply(
            x,
            module.weight,
            module.bias,
            mean,
            variance,
            module.eps,
            momentum,
            torch.distributed.group.WORLD,
            processes.count,
        )
    else:
        y = _normalised(x, module.weight, module.bias, mean, variance, module.eps, momentum, processes)
    for name in _ACTIVATED:
        if hasattr(module, name):
            y = getattr(module, name)(y)
    return y


def _normalised(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    eps: float,
    momentum: float,
    processes: Processes,
) -> Tensor:
    """What torch's own layer does on GPUs, for CPUs. Every process has as many values of a channel."""
    axes = [axis for axis in range(x.dim()) if axis != 1]
    shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]
    values = x.numel() // x.shape[1] * processes.count
    exact = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    variances, means = torch.var_mean(exact, axes, correction=0)
    means, variances = _Gathered.apply(torch.stack([means, variances]), processes).unbind(1)  # of each process
    mean = means.mean(dim=0)
    variance = (variances + (means - mean).square()).mean(dim=0)
    centred = exact - mean.view(shape)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean), momentum)
            running_var.lerp_((variance * (values / max(values - 1, 1))).to(running_var), momentum)
    scale = (variance + eps).rsqrt()
    if weight is not None:
        scale = scale * weight
    y = centred * scale.view(shape)
    return (y if bias is None else y + bias.view(shape)).to(x.dtype)


class _Gathered(torch.autograd.Function):
    """A tensor of every process, (processes, …). The loss of each depends on all of them, so gradients are added up."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        (rows,) = processes.rows([own[None]])
        return rows

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.add(gradient.contiguous())[ctx.processes.rank], None
