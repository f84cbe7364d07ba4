"""The PyTorch formulation as one closed operator, for graphs compiled on the processor.

torch.compile makes the formulation several times slower there: its code for grid_sample gathers number by number. Behind
an operator that is opaque to the compiler, the eager kernels run unchanged. The backward pass samples
once more, which eager mode need not, so this is used inside compiled graphs only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from ops.grid_sample import ms_deform_attn_pytorch


def _pairs(flat: list[int]) -> list[tuple[int, int]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


@torch.library.custom_op("segue_pytorch::ms_deform_attn", mutates_args=())
def closed_forward(
    value: Tensor, sampling_locations: Tensor, attention_weights: Tensor, spatial_shapes: list[int]
) -> Tensor:
    """Args and returns: see :func:`ops.ms_deform_attn`; shapes as a flat list."""
    return ms_deform_attn_pytorch(value, _pairs(spatial_shapes), sampling_locations, attention_weights)


@closed_forward.register_fake
def _(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor, spatial_shapes: list[int]) -> Tensor:
    return value.new_empty(value.shape[0], sampling_locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.custom_op("segue_pytorch::ms_deform_attn_backward", mutates_args=())
def closed_backward(
    output_gradient: Tensor,
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    spatial_shapes: list[int],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of value, locations and weights, written out: inside an operator there is no autograd."""
    batch, _, heads, channels = value.shape
    _, queries, _, levels, points, _ = sampling_locations.shape
    if batch * queries * heads * channels * points == 0:
        return torch.zeros_like(value), torch.zeros_like(sampling_locations), torch.zeros_like(attention_weights)
    wide = sampling_locations.dtype
    weights = attention_weights.to(wide).transpose(1, 2).reshape(batch * heads, 1, queries, levels, points)
    gradient = output_gradient.to(wide).view(batch, queries, heads, channels).permute(0, 2, 3, 1)
    gradient = gradient.reshape(batch * heads, channels, queries, 1)
    grids = 2 * sampling_locations.nan_to_num(nan=-1.0).clamp(-1.0, 2.0) - 1
    for_value, for_locations, for_weights = [], [], []
    maps = value.to(wide).split([height * width for height, width in _pairs(spatial_shapes)], dim=1)
    for level, (height, width) in enumerate(_pairs(spatial_shapes)):
        image = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)  # B·H, Lq, P, 2
        sampled = grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        for_weights.append((sampled * gradient).sum(dim=1))  # B·H, Lq, P
        for_image, for_grid = torch.ops.aten.grid_sampler_2d_backward(
            gradient * weights[..., level, :], image, grid, 0, 0, False, [True, True]
        )
        for_value.append(for_image.view(batch, heads, channels, height * width).permute(0, 3, 1, 2))
        for_locations.append(2 * for_grid)
    by_level = torch.stack(for_locations, dim=2).view(batch, heads, queries, levels, points, 2).transpose(1, 2)
    by_weight = torch.stack(for_weights, dim=2).view(batch, heads, queries, levels, points).transpose(1, 2)
    return (
        torch.cat(for_value, dim=1).to(value.dtype).contiguous(),
        by_level.contiguous(),
        by_weight.to(attention_weights.dtype).contiguous(),
    )


@closed_backward.register_fake
def _(
    output_gradient: Tensor,
    value: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    spatial_shapes: list[int],
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
    return *closed_backward(output_gradient.contiguous(), *ctx.saved_tensors, ctx.spatial_shapes), None


closed_forward.register_autograd(_backward, setup_context=_save)
