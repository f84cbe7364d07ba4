"""Random inputs of multi-scale deformable attention, for the tests of the operators."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Shapes = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Inputs:
    """Arguments of one call, in the order of :func:`ops.ms_deform_attn`."""

    value: Tensor
    shapes: Shapes
    locations: Tensor
    weights: Tensor

    def arguments(self) -> tuple[Tensor, Shapes, Tensor, Tensor]:
        return self.value, self.shapes, self.locations, self.weights

    def flat_arguments(self) -> tuple[Tensor, Tensor, Tensor, list[int]]:
        """As the compiled operator takes them."""
        return self.value, self.locations, self.weights, [size for pair in self.shapes for size in pair]

    def leaves(self) -> Inputs:
        """The same numbers as new leaves that want gradients."""
        tensors = [tensor.detach().clone().requires_grad_() for tensor in (self.value, self.locations, self.weights)]
        return Inputs(tensors[0], self.shapes, tensors[1], tensors[2])

    def gradients(self) -> list[Tensor]:
        gradients = [tensor.grad for tensor in (self.value, self.locations, self.weights)]
        assert all(gradient is not None for gradient in gradients)
        return [gradient for gradient in gradients if gradient is not None]


def away_from_boundaries(locations: Tensor, shapes: Sequence[tuple[int, int]], distance: float = 0.05) -> Tensor:
    """Move each location to at least ``distance`` pixels from the next pixel boundary, where gradients jump."""
    size = torch.tensor([(width, height) for height, width in shapes], dtype=locations.dtype)[:, None, :]
    pixel = locations * size - 0.5
    fraction = (pixel - pixel.floor()).clamp(distance, 1 - distance)
    return (pixel.floor() + fraction + 0.5) / size


def make(
    shapes: Shapes = ((3, 5), (1, 1), (4, 2)),
    batch: int = 2,
    queries: int = 7,
    heads: int = 3,
    channels: int = 8,
    points: int = 4,
    dtype: torch.dtype = torch.float32,
    weight_dtype: torch.dtype | None = None,
    seed: int = 0,
) -> Inputs:
    """Locations reach beyond the levels on all sides."""
    generator = torch.Generator().manual_seed(seed)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    positions, levels = sum(height * width for height, width in shapes), len(shapes)
    value = torch.randn(batch, positions, heads, channels, generator=generator, dtype=wide)
    locations = torch.rand(batch, queries, heads, levels, points, 2, generator=generator, dtype=wide) * 1.6 - 0.3
    weights = torch.randn(batch, queries, heads, levels, points, generator=generator, dtype=wide)
    weights = weights.flatten(-2).softmax(-1).view_as(weights)
    return Inputs(value.to(dtype), shapes, away_from_boundaries(locations, shapes), weights.to(weight_dtype or wide))
