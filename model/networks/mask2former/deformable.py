"""Multi-scale deformable attention as a layer, and the encoder built from it.

Zhu et al., "Deformable DETR", ICLR 2021. Every query attends to a few points around its reference point on each level of a
feature pyramid; the points and their weights are linear functions of the query.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import ops
from model.common.devices import sent
from model.networks.mask2former.attention import xavier_

LevelShapes = Sequence[tuple[int, int]]
"""(height, width) of each level, in the order in which their flattened maps are concatenated."""


class DeformableAttention(nn.Module):
    """Project, choose sampling points, sample, project back.

    Args:
        channels: C of queries and values, a multiple of ``heads``.
        levels: maps of the pyramid.
        heads: independent groups of points.
        points: sampling points for each head and level.
    """

    def __init__(self, channels: int, levels: int, heads: int, points: int) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{channels} channels cannot be divided among {heads} heads")
        self.levels, self.heads, self.points = levels, heads, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Uniform weights on a star of points: head h looks in direction 2πh/heads, point k at k+1 steps."""
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
        # On the CPU, also where planning builds the network without memory.
        angle = torch.arange(self.heads, dtype=torch.float32, device="cpu") * (2 * math.pi / self.heads)
        direction = torch.stack((angle.cos(), angle.sin()), dim=-1)
        direction = direction / direction.abs().amax(dim=-1, keepdim=True)  # onto the border of a square
        steps = torch.arange(1, self.points + 1, dtype=torch.float32, device="cpu")
        star = direction[:, None, None, :] * steps[None, None, :, None]  # heads, 1, points, xy
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(star.expand(-1, self.levels, -1, -1).reshape(-1))

    def forward(
        self, query: Tensor, reference: Tensor, memory: Tensor, shapes: LevelShapes, padded: Tensor | None = None
    ) -> Tensor:
        """Attend to sampled points.

        Args:
            query: (B, Q, C), positions included.
            reference: (B, Q, L, 2) points (x, y) in [0, 1], or (B, Q, L, 4) boxes (centre x, y, width, height): offsets
                count in pixels of the sampled level, or in half box sizes divided by the number of points.
            memory: (B, S, C), the flattened levels.
            shapes: height and width of each level; S is the sum of their areas.
            padded: (B, S) bool, True where memory is padding; such values count as zero.

        Returns:
            (B, Q, C).
        """
        value = self.value_proj(memory)
        if padded is not None:
            value = value.masked_fill(padded[..., None], 0.0)
        value = value.unflatten(-1, (self.heads, -1))  # B, S, heads, C/heads
        offsets = self.sampling_offsets(query).unflatten(-1, (self.heads, self.levels, self.points, 2))
        weights = self.attention_weights(query).unflatten(-1, (self.heads, self.levels * self.points)).softmax(dim=-1)
        centre = reference[:, :, None, :, None, :2]  # B, Q, 1, L, 1, xy
        if reference.shape[-1] == 2:
            sizes = sent(
                torch.tensor([(width, height) for height, width in shapes], dtype=offsets.dtype), offsets.device
            )
            locations = centre + offsets / sizes[:, None, :]
        else:
            locations = centre + offsets * (reference[:, :, None, :, None, 2:] * (0.5 / self.points))
        weights = weights.unflatten(-1, (self.levels, self.points))
        attended = ops.ms_deform_attn(value, shapes, locations, weights)
        return self.output_proj(attended)


class EncoderLayer(nn.Module):
    """Deformable self-attention over a pyramid and a feed-forward network, each with residual and layer norm."""

    def __init__(self, channels: int, levels: int, heads: int, points: int, feed_forward: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(channels, levels, heads, points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, feed_forward)
        self.linear2 = nn.Linear(feed_forward, channels)
        self.norm2 = nn.LayerNorm(channels)
        xavier_(self.linear1)
        xavier_(self.linear2)

    def forward(self, x: Tensor, positions: Tensor, reference: Tensor, shapes: LevelShapes) -> Tensor:
        x = self.norm1(x + self.self_attn(x + positions, reference, x, shapes))
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


def cell_centres(shapes: LevelShapes, device: torch.device | str | None = None) -> Tensor:
    """Reference points of a pyramid's own cells: (S, 2) float32, x then y, each centre as a fraction of its level."""
    levels = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        levels.append(torch.stack((columns, rows), dim=-1).flatten(0, 1))
    return torch.cat(levels)
