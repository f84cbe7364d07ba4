"""Tensors of several types and shapes as the bytes of one, so that processes exchange them at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = tuple[torch.dtype, tuple[int, ...]]
ALIGNED = 16
"""Bytes that a tensor begins at a multiple of: as a number of its type it may begin nowhere else."""


def kinds_of(tensors: Sequence[Tensor]) -> list[Kind]:
    """Type and shape of each."""
    return [(tensor.dtype, tuple(tensor.shape)) for tensor in tensors]


def packed_length(kinds: Sequence[Kind]) -> int:
    """Bytes of tensors of these types and shapes when they are packed."""
    return sum(_aligned(dtype, shape) for dtype, shape in kinds)


def _aligned(dtype: torch.dtype, shape: tuple[int, ...]) -> int:
    return -(-torch.Size(shape).numel() * dtype.itemsize // ALIGNED) * ALIGNED


def packed(tensors: Sequence[Tensor]) -> Tensor:
    """The bytes of all tensors, one behind the other."""
    parts = []
    for tensor in tensors:
        flat = tensor.contiguous().view(-1).view(torch.uint8)
        parts.append(F.pad(flat, (0, _aligned(tensor.dtype, tuple(tensor.shape)) - len(flat))))
    return torch.cat(parts)


def unpacked(data: Tensor, kinds: Sequence[Kind]) -> list[Tensor]:
    """The tensors of these types and shapes that were packed."""
    found, place = [], 0
    for dtype, shape in kinds:
        length = torch.Size(shape).numel() * dtype.itemsize
        found.append(data[place : place + length].view(dtype).view(shape))
        place += _aligned(dtype, shape)
    return found
