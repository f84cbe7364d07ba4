"""Multi-scale deformable attention: one function for all implementations."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ops.checks import check_inputs, level_shapes
from ops.compiled import ms_deform_attn_compiled
from ops.grid_sample import ms_deform_attn_pytorch
from ops.library import IMPLEMENTATION
from ops.opaque import closed_forward


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Sequence[tuple[int, int]] | Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Weighted sum of bilinear samples over levels and points (Zhu et al., "Deformable DETR", ICLR 2021, equation 3).

    Args:
        value: (B, S, H, D) float32, float64, bfloat16 or float16; levels flattened row by row and concatenated in the
            order of ``spatial_shapes``, S = sum of the level areas.
        spatial_shapes: (height, width) of each level as Python ints (or an integer tensor on the CPU).
        sampling_locations: (B, Lq, H, L, P, 2), float64 where value is, else float32; (x, y) normalised so that
            [0, 1] covers the level, pixel = location · size − 0.5. Samples off the level count as zero, and so do
            locations that are not a number.
        attention_weights: (B, Lq, H, L, P), of the locations' or the value's type; already softmaxed over L·P.

    Returns:
        (B, Lq, H·D) of the value's type, heads outermost. Sums are accumulated in the locations' type. Under autocast,
        value (unless float64) is cast to the autocast type, and so is the result; locations never are.

    Raises:
        AttentionInputError: if types, devices or shapes do not fit together.
        OperatorUnavailableError: if ``SEGUE_OPS=compiled`` and the library has no kernels for this device.
    """
    shapes = level_shapes(spatial_shapes)
    value = _autocast_value(value)
    check_inputs(value, shapes, sampling_locations, attention_weights)
    if IMPLEMENTATION.serves(value.device.type):
        return ms_deform_attn_compiled(value, shapes, sampling_locations, attention_weights)
    if value.device.type == "cpu" and torch.compiler.is_compiling():
        output: Tensor = closed_forward(
            value, sampling_locations, attention_weights, [size for pair in shapes for size in pair]
        )
        return output
    return ms_deform_attn_pytorch(value, shapes, sampling_locations, attention_weights)


def _autocast_value(value: Tensor) -> Tensor:
    """value in the type that autocast asks for; autocast leaves float64 alone."""
    device = value.device.type
    if device in ("cpu", "cuda") and value.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return value.to(torch.get_autocast_dtype(device))
    return value
