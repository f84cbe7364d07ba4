"""A network for inference only: normalisation folded into the convolutions before it, tensors in channels-last order.

In evaluation mode batch normalisation is a scale and a shift of every channel, which the convolution before it can do itself:

    scale · (W ∗ x + b) + shift = (scale · W) ∗ x + (scale · b + shift),    scale = γ / √(σ² + ε), shift = β - μ · scale

The answer differs in rounding only (Jacob et al., "Quantization and Training of Neural Networks …", CVPR 2018, section 3.2).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from model.networks.backbones.frozen_norm import FrozenBatchNorm2d

FOLDABLE = (nn.BatchNorm2d, nn.SyncBatchNorm, FrozenBatchNorm2d)
"""Normalisations that do nothing else; classes derived from them may also activate."""


def folded_copy(network: nn.Module) -> nn.Module:
    """An independent copy in evaluation mode that computes the same up to rounding, for inference only.

    Never store or train it: its state dict no longer fits the network's constructor.

    Args:
        network: left as it is. A normalisation is folded where its convolution is known by position or name: the one before it
            in a sequence, ``conv2`` beside ``bn2``, or the convolution that holds it as ``norm``. All others stay.
    """
    folded = copy.deepcopy(network).eval().requires_grad_(False)
    for parent, name, conv in list(_pairs(folded)):
        norm = parent.get_submodule(name)
        setattr(parent, name, nn.Identity())
        _fold(conv, norm)
    return folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _pairs(network: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    """The parent of each normalisation to fold, its name there, and the convolution before it."""
    for module in network.modules():
        children = dict(module.named_children())
        if isinstance(module, nn.Conv2d) and "norm" in children:
            yield from _pair(module, "norm", module)
        names = list(children)
        for name, conv in children.items():
            if not isinstance(conv, nn.Conv2d):
                continue
            if isinstance(module, nn.Sequential):
                position = names.index(name) + 1
                if position < len(names):
                    yield from _pair(module, names[position], conv)
            elif _is_own(module) and name.startswith("conv") and (norm := f"bn{name.removeprefix('conv')}") in children:
                yield from _pair(module, norm, conv)


def _is_own(module: nn.Module) -> bool:
    """Whether a module is Segue's, where ``bn2`` always follows ``conv2``; elsewhere it may come first."""
    return type(module).__module__.split(".")[0] == __name__.split(".")[0]


def _pair(parent: nn.Module, name: str, conv: nn.Conv2d) -> Iterator[tuple[nn.Module, str, nn.Conv2d]]:
    if type(parent.get_submodule(name)) in FOLDABLE:
        yield parent, name, conv


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    scale, shift = _affine(norm)
    bias = shift if conv.bias is None else scale * conv.bias + shift
    conv.weight.copy_(conv.weight * scale.view(-1, 1, 1, 1))
    conv._parameters.pop("bias", None)
    conv._buffers.pop("bias", None)
    conv.bias = nn.Parameter(bias, requires_grad=False)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift (C,) of a normalisation in evaluation mode."""
    if isinstance(norm, FrozenBatchNorm2d):
        return norm.affine
    assert isinstance(norm, nn.BatchNorm2d | nn.SyncBatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return scale, norm.bias - norm.running_mean * scale
