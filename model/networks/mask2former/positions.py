"""Sine position encodings of a grid, as DETR introduced them for images."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_positions(
    height: int,
    width: int,
    features_per_axis: int,
    *,
    normalise: bool = True,
    temperature: float = 10000.0,
    padded: Tensor | None = None,
    device: torch.device | str | None = None,
) -> Tensor:
    r"""Encode every cell of a grid by sines and cosines of its row and its column.

    With coordinate c (1 for the first cell; divided by its axis' last coordinate and multiplied by 2π when normalised)
    feature j of an axis is

    .. math:: \sin(c / T^{j/F}) \text{ for even } j, \quad \cos(c / T^{(j-1)/F}) \text{ for odd } j

    Args:
        height: rows of the grid.
        width: columns of the grid.
        features_per_axis: F; half of the channels of the result.
        normalise: measure coordinates as fractions of a full turn, independently of the grid's size.
        temperature: T.
        padded: (B, height, width) bool, True where a cell is padding: padding does not count in the coordinates.
        device: of the result; that of ``padded`` if given.

    Returns:
        (B, 2F, height, width) float32, the features of the row first; B is 1 without ``padded``. Single precision
        whatever the network computes in, like the tables the released weights were trained with.

    Source: Carion et al., DETR (2020), appendix; Mask2Former's released code for the 1e-6 beside the last coordinate.
    """
    if padded is None:
        padded = torch.zeros(1, height, width, dtype=torch.bool, device=device)
    valid = (~padded).to(torch.float32)
    rows, columns = valid.cumsum(dim=1), valid.cumsum(dim=2)  # B, H, W each
    if normalise:
        rows = rows / (rows[:, -1:, :] + 1e-6) * (2 * math.pi)
        columns = columns / (columns[:, :, -1:] + 1e-6) * (2 * math.pi)
    index = torch.arange(features_per_axis, dtype=torch.float32, device=valid.device)
    wavelength = temperature ** (2 * torch.div(index, 2, rounding_mode="floor") / features_per_axis)

    def encode(coordinate: Tensor) -> Tensor:
        angle = coordinate[..., None] / wavelength  # B, H, W, F
        return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), dim=-1).flatten(-2)

    return torch.cat((encode(rows), encode(columns)), dim=-1).permute(0, 3, 1, 2)
