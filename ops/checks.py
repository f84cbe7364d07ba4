"""The input checks of multi-scale deformable attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ops.errors import AttentionInputError

VALUE_TYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def level_shapes(spatial_shapes: Any) -> tuple[tuple[int, int], ...]:
    """The level sizes as plain pairs.

    Args:
        spatial_shapes: (height, width) of each level: pairs of ints, or an integer tensor (L, 2) on the CPU.

    Raises:
        AttentionInputError: for a tensor on another device (reading it would synchronise the device), no level at all, or
            anything but two numbers per level.
    """
    if isinstance(spatial_shapes, Tensor):
        if spatial_shapes.device.type != "cpu":
            raise AttentionInputError(
                f"spatial_shapes is a tensor on {spatial_shapes.device}: give the level sizes as Python ints, "
                "for example [tuple(level.shape[-2:]) for level in levels]"
            )
        spatial_shapes = spatial_shapes.tolist()
    try:
        pairs = tuple((height, width) for height, width in spatial_shapes)
    except (TypeError, ValueError):
        raise AttentionInputError(f"spatial_shapes must be (height, width) pairs, got {spatial_shapes!r}") from None
    if not pairs:
        raise AttentionInputError("spatial_shapes is empty: at least one level is needed")
    if any(isinstance(size, (float, Tensor)) for pair in pairs for size in pair):
        raise AttentionInputError(f"spatial_shapes must hold ints, got {spatial_shapes!r}")
    if any(size < 1 for pair in pairs for size in pair):
        raise AttentionInputError(f"every level needs at least one pixel, got sizes {list(pairs)}")
    return pairs


def check_inputs(
    value: Tensor, shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    """Raise :class:`AttentionInputError` with the first thing that does not fit; silent otherwise."""
    _check_shapes(value, shapes, sampling_locations, attention_weights)
    _check_types(value, sampling_locations, attention_weights)
    if not value.device == sampling_locations.device == attention_weights.device:
        raise AttentionInputError(
            "all tensors must be on one device, got "
            f"value on {value.device}, sampling_locations on {sampling_locations.device}, "
            f"attention_weights on {attention_weights.device}"
        )


def _check_shapes(
    value: Tensor, shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> None:
    if value.dim() != 4:
        raise AttentionInputError(f"value must be (B, S, H, D), got {tuple(value.shape)}")
    if sampling_locations.dim() != 6 or sampling_locations.shape[-1] != 2:
        raise AttentionInputError(
            f"sampling_locations must be (B, Lq, H, L, P, 2), got {tuple(sampling_locations.shape)}"
        )
    if attention_weights.shape != sampling_locations.shape[:-1]:
        raise AttentionInputError(
            f"attention_weights must be {tuple(sampling_locations.shape[:-1])} like sampling_locations without its "
            f"last axis, got {tuple(attention_weights.shape)}"
        )
    batch, positions, heads, _ = value.shape
    if sampling_locations.shape[0] != batch or sampling_locations.shape[2] != heads:
        raise AttentionInputError(
            f"value has batch {batch} and {heads} heads, sampling_locations has batch {sampling_locations.shape[0]} "
            f"and {sampling_locations.shape[2]} heads"
        )
    if sampling_locations.shape[3] != len(shapes):
        raise AttentionInputError(
            f"sampling_locations has {sampling_locations.shape[3]} levels, spatial_shapes has {len(shapes)}"
        )
    area = sum(height * width for height, width in shapes)
    if positions != area:
        raise AttentionInputError(
            f"the levels {list(shapes)} have {area} pixels together, but value has {positions} positions"
        )


def _check_types(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> None:
    if value.dtype not in VALUE_TYPES:
        raise AttentionInputError(f"value must be float32, float64, bfloat16 or float16, got {value.dtype}")
    wide = torch.float64 if value.dtype == torch.float64 else torch.float32
    if sampling_locations.dtype != wide:
        raise AttentionInputError(
            f"sampling_locations must be {wide} for a value of {value.dtype}, got {sampling_locations.dtype}: "
            "locations rounded to half precision are off by pixels, compute them in single precision"
        )
    if attention_weights.dtype not in (wide, value.dtype):
        raise AttentionInputError(
            f"attention_weights must be {wide} or {value.dtype} like value, got {attention_weights.dtype}"
        )
