"""The compiled operators as PyTorch sees them: shapes without computing (fake kernels) and gradients.

Importing this module does nothing; :func:`register` is called once, after the library is loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Shapes = Sequence[int]


def ms_deform_attn_compiled(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """Args and returns: see :func:`ops.ms_deform_attn`, which has checked the inputs."""
    flat = [size for pair in spatial_shapes for size in pair]
    inputs = (value, sampling_locations, attention_weights, flat)
    output: Tensor
    if torch.compiler.is_compiling():
        output = torch.ops.segue.ms_deform_attn.default(*inputs)
    elif torch.is_grad_enabled():
        output = _Eager.apply(*inputs)
    else:
        output = _Eager.forward(*inputs)
    return output


def register() -> None:
    """Teach PyTorch the operators' output shapes and gradients; needs the library loaded, and may run once."""
    torch.library.register_fake("segue::ms_deform_attn", _fake_forward)
    torch.library.register_fake("segue::ms_deform_attn_backward", _fake_backward)
    torch.library.register_autograd("segue::ms_deform_attn", _backward, setup_context=_save)
    torch.library.register_autograd("segue::ms_deform_attn_backward", _no_second_derivative)


def _fake_forward(
    value: Tensor, sampling_locations: Tensor, attention_weights: Tensor, spatial_shapes: Shapes
) -> Tensor:
    batch, _, heads, channels = value.shape
    return value.new_empty(batch, sampling_locations.shape[1], heads * channels)


def _fake_backward(
    output_gradient: Tensor,
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    spatial_shapes: Shapes,
) -> tuple[Tensor, Tensor, Tensor]:
    contiguous = torch.contiguous_format
    return (
        torch.empty_like(value, memory_format=contiguous),
        torch.empty_like(sampling_locations, memory_format=contiguous),
        torch.empty_like(attention_weights, memory_format=contiguous),
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *tensors, ctx.spatial_shapes = inputs
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    value, sampling_locations, attention_weights = ctx.saved_tensors
    if value.is_cuda:
        _respect_deterministic_mode()
    gradients = torch.ops.segue.ms_deform_attn_backward.default(
        output_gradient.contiguous(), value, sampling_locations, attention_weights, ctx.spatial_shapes
    )
    return *gradients, None


class _Eager(torch.autograd.Function):
    """The registered gradient without its registration's detours, which cost a small network as much as the kernels.

    Below autograd, the dispatcher goes from here to the kernel; otherwise it would first ask the registration again.
    """

    @staticmethod
    def forward(*inputs: Any) -> Tensor:
        with torch._C._AutoDispatchBelowAutograd():
            output: Tensor = torch.ops.segue.ms_deform_attn.default(*inputs)
        return output

    setup_context = staticmethod(_save)

    @staticmethod
    def backward(ctx: Any, output_gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        if torch.is_grad_enabled():  # the gradient is to be differentiated: the registration raises the error
            return _backward(ctx, output_gradient)
        with torch._C._AutoDispatchBelowAutograd():
            return _backward(ctx, output_gradient)


def _respect_deterministic_mode() -> None:
    """What torch's own operators do: the sums over samples that share a pixel come in no fixed order on CUDA."""
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        "the gradient of ms_deform_attn has no deterministic CUDA implementation, but "
        "torch.use_deterministic_algorithms(True) is set. Train on the CPU, where it is deterministic, "
        "or set torch.use_deterministic_algorithms(True, warn_only=True)."
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, UserWarning, stacklevel=2)


def _no_second_derivative(ctx: Any, *gradients: Tensor | None) -> None:
    raise NotImplementedError("ms_deform_attn can be differentiated once; SEGUE_OPS=pytorch gives second derivatives")
