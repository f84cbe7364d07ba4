"""The three sub-layers of the mask decoder, each with its residual and its layer norm behind it, and the small perceptron.

Tensors are (B, tokens, channels). Parameter names are those of the public Mask2Former checkpoints.
"""

from __future__ import annotations

from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.MultiheadAttention):
    """Multi-head attention whose mask is shared by the heads, so that it is never copied for each of them."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__(channels, heads, batch_first=True)

    def forward(  # type: ignore[override]  # fewer arguments on purpose
        self, query: Tensor, key: Tensor, value: Tensor, allowed: Tensor | None = None
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Q, C).
            key: (B, S, C).
            value: (B, S, C).
            allowed: (B, Q, S) bool, True where a query may look; everywhere if None. Each row needs one True.

        Returns:
            (B, Q, C).
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(x, w, b)
            .unflatten(-1, (self.num_heads, self.head_dim))
            .transpose(1, 2)  # B, heads, tokens, C/heads
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        mask = None if allowed is None else allowed[:, None]
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.out_proj(attended.transpose(1, 2).flatten(-2))


class CrossAttentionLayer(nn.Module):
    """Queries attend to the image."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = Attention(channels, heads)
        self.norm = nn.LayerNorm(channels)
        xavier_(self)

    def forward(
        self, x: Tensor, positions: Tensor, memory: Tensor, memory_positions: Tensor, allowed: Tensor
    ) -> Tensor:
        attended = self.multihead_attn(x + positions, memory + memory_positions, memory, allowed)
        return self.norm(x + attended)


class SelfAttentionLayer(nn.Module):
    """Queries attend to each other."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.self_attn = Attention(channels, heads)
        self.norm = nn.LayerNorm(channels)
        xavier_(self)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        query = x + positions
        return self.norm(x + self.self_attn(query, query, x))


class FeedForwardLayer(nn.Module):
    """Two linear layers with ReLU between."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm = nn.LayerNorm(channels)
        xavier_(self)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.linear2(self.linear1(x).relu()))


class Perceptron(nn.Module):
    """Linear layers with ReLU between them and none behind the last."""

    def __init__(self, *channels: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(inputs, outputs) for inputs, outputs in pairwise(channels))

    def forward(self, x: Tensor) -> Tensor:
        *hidden, last = self.layers
        for layer in hidden:
            x = layer(x).relu()
        return last(x)


def xavier_(module: nn.Module) -> None:
    """Xavier-uniform initialisation of every matrix of a module; vectors keep theirs."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
