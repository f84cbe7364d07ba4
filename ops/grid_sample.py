"""Multi-scale deformable attention written with :func:`torch.nn.functional.grid_sample`.

The formulation every device can run. It is the reference that the compiled kernels are tested against, the baseline
they are measured against, and what runs where there is no compiled library.

    out[b, q, h] = Σ_l Σ_p  A[b, q, h, l, p] · V_l[b, h](x[b, q, h, l, p])

    V_l[b, h](x)   bilinear sample of level l of head h at x, zero outside the level
    A              attention weights, softmaxed over levels and points together
    x              location, normalised so that [0, 1] covers the level; pixel = x · size − 0.5

Source: Zhu et al., "Deformable DETR", ICLR 2021, equation 3.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import grid_sample


def sample_and_sum(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The sum above for finite locations and one floating-point type.

    Args:
        value: (B, S, H, D), levels flattened row by row and concatenated, S = sum of the level areas.
        spatial_shapes: (height, width) of each level.
        sampling_locations: (B, Lq, H, L, P, 2), (x, y).
        attention_weights: (B, Lq, H, L, P).

    Returns:
        (B, Lq, H·D), heads outermost.
    """
    batch, _, heads, channels = value.shape
    queries, levels, points = sampling_locations.shape[1], sampling_locations.shape[3], sampling_locations.shape[4]
    grids = 2 * sampling_locations - 1  # grid_sample covers a level with [-1, 1]
    sampled = []
    maps = value.split([height * width for height, width in spatial_shapes], dim=1)
    for level, (height, width) in enumerate(spatial_shapes):
        image = maps[level].permute(0, 2, 3, 1).reshape(batch * heads, channels, height, width)
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)  # B·H, Lq, P, 2
        sampled.append(grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=False))
    samples = torch.stack(sampled, dim=-2).flatten(-2)  # B·H, D, Lq, L·P
    weights = attention_weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    output = (samples * weights).sum(dim=-1)  # B·H, D, Lq
    return output.view(batch, heads * channels, queries).transpose(1, 2).contiguous()


def ms_deform_attn_pytorch(
    value: Tensor, spatial_shapes: Sequence[tuple[int, int]], sampling_locations: Tensor, attention_weights: Tensor
) -> Tensor:
    """The formulation with the compiled kernels' conventions about types and odd locations.

    Half-precision values are sampled and summed in the locations' type; the result has the values' type. Locations that
    are infinite, huge or NaN are outside every level: they sample nothing and get no gradient.

    Args and returns: see :func:`sample_and_sum`.
    """
    batch, _, heads, channels = value.shape
    queries = sampling_locations.shape[1]
    if batch * queries * heads * channels == 0:  # grid_sample refuses empty inputs; keep the graph alive all the same
        empty = value.new_zeros(batch, queries, heads * channels)
        return empty + 0 * (value.sum() + sampling_locations.sum() + attention_weights.sum()).to(value.dtype)
    # At -1 and 2 a sample is at least one pixel off a level of any size; both operations have zero gradient beyond, whatever
    # comes back (nan_to_num would multiply a gradient of NaN by zero).
    locations = sampling_locations.where(~sampling_locations.isnan(), -1.0).clamp(-1.0, 2.0)
    wide = locations.dtype
    with torch.autocast(value.device.type, enabled=False):
        output = sample_and_sum(value.to(wide), spatial_shapes, locations, attention_weights.to(wide))
    return output.to(value.dtype)
