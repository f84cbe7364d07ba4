"""The masked-attention transformer decoder.

Cheng et al., "Masked-attention Mask Transformer", CVPR 2022, section 3.2. A set of queries reads the image layer by layer;
in each layer a query sees only those cells which the mask it proposed before covers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.losses.mask_activation import MaskActivation, mask_probabilities
from model.networks.mask2former.attention import (
    CrossAttentionLayer,
    FeedForwardLayer,
    Perceptron,
    SelfAttentionLayer,
)
from model.networks.mask2former.class_heads import ClassHead
from model.networks.mask2former.outputs import MaskPrediction
from model.networks.mask2former.positions import sine_positions

LEVELS = 3


@dataclass(frozen=True)
class QuerySet:
    """Queries that attend to each other and share a mask head.

    Attributes:
        content: (Q, C), input of the first layer.
        positions: (Q, C) for each decoder layer, added wherever queries are compared.
        mask_head: from a query's embedding (…, C) to its mask embedding (…, mask channels).
    """

    content: Tensor
    positions: Sequence[Tensor]
    mask_head: nn.Module


@dataclass(frozen=True)
class Memory:
    """What queries read.

    Attributes:
        tokens: (B, S, C) for each level, coarsest first.
        positions: (1, S, C) for each level.
        shapes: (height, width) of each level.
        mask_features: (B, mask channels, h, w).
    """

    tokens: Sequence[Tensor]
    positions: Sequence[Tensor]
    shapes: Sequence[tuple[int, int]]
    mask_features: Tensor


class MaskedAttentionDecoder(nn.Module):
    """Queries to classes and masks.

    Args:
        inputs: channels of the pixel decoder's maps.
        class_head: from (…, channels) to class logits.
        channels: C of the queries.
        mask_channels: channels of the mask features.
        queries: Q.
        layers: decoder layers; layer i reads level i mod 3, coarsest first.
        heads: of every attention.
        feed_forward: hidden width of the feed-forward networks.
        mask_activation: what turns mask logits into probabilities.
    """

    def __init__(
        self,
        inputs: int,
        class_head: ClassHead,
        channels: int = 256,
        mask_channels: int = 256,
        queries: int = 100,
        layers: int = 9,
        heads: int = 8,
        feed_forward: int = 2048,
        mask_activation: MaskActivation = "sigmoid",
    ) -> None:
        super().__init__()
        self.mask_activation: MaskActivation = mask_activation
        self.transformer_self_attention_layers = nn.ModuleList(
            SelfAttentionLayer(channels, heads) for _ in range(layers)
        )
        self.transformer_cross_attention_layers = nn.ModuleList(
            CrossAttentionLayer(channels, heads) for _ in range(layers)
        )
        self.transformer_ffn_layers = nn.ModuleList(FeedForwardLayer(channels, feed_forward) for _ in range(layers))
        self.decoder_norm = nn.LayerNorm(channels)
        self.query_feat = nn.Embedding(queries, channels)
        self.query_embed = nn.Embedding(queries, channels)
        self.level_embed = nn.Embedding(LEVELS, channels)
        self.input_proj = nn.ModuleList()  # without parameters where the widths agree, as in all published networks
        for _ in range(LEVELS):
            self.input_proj.append(nn.Conv2d(inputs, channels, 1) if inputs != channels else nn.Identity())
        for projection in self.input_proj:
            if isinstance(projection, nn.Conv2d) and projection.bias is not None:
                nn.init.kaiming_uniform_(projection.weight, a=1)
                nn.init.zeros_(projection.bias)
        self._class_head_name = class_head.name
        self.add_module(class_head.name, class_head)
        self.mask_embed = Perceptron(channels, channels, channels, mask_channels)

    @property
    def class_head(self) -> ClassHead:
        """The class head, whatever it is called in the state dictionary."""
        head = self.get_submodule(self._class_head_name)
        assert isinstance(head, ClassHead)
        return head

    @property
    def base_queries(self) -> QuerySet:
        """The learned queries of the network itself."""
        positions = [self.query_embed.weight] * len(self.transformer_ffn_layers)
        return QuerySet(self.query_feat.weight, positions, self.mask_embed)

    def memory(self, mask_features: Tensor, maps: Sequence[Tensor]) -> Memory:
        """Prepare the pixel decoder's output for attention.

        Args:
            mask_features: (B, mask channels, h, w).
            maps: (B, inputs, h_l, w_l) for each level, coarsest first.
        """
        tokens, positions, shapes = [], [], []
        for project, map_, level in zip(self.input_proj, maps, self.level_embed.weight, strict=True):
            height, width = map_.shape[-2:]
            projected = project(map_).flatten(2).transpose(1, 2) + level
            sine = sine_positions(height, width, projected.shape[-1] // 2, device=map_.device)
            tokens.append(projected)
            positions.append(sine.flatten(2).transpose(1, 2).to(projected.dtype))
            shapes.append((height, width))
        return Memory(tokens, positions, shapes, mask_features)

    def predict(self, x: Tensor, mask_features: Tensor, mask_head: nn.Module) -> MaskPrediction:
        """Classes and masks of queries (B, Q, C)."""
        embedding = self.decoder_norm(x)
        masks = torch.einsum("bqc,bchw->bqhw", mask_head(embedding), mask_features)
        return MaskPrediction(self.class_head(embedding), masks)

    def decode(self, memory: Memory, queries: QuerySet) -> tuple[tuple[MaskPrediction, ...], tuple[Tensor, ...]]:
        """Let one set of queries read the image.

        Returns:
            The predictions of the raw queries and behind each layer; the queries (B, Q, C) that they were made from.
        """
        batch = memory.mask_features.shape[0]
        x = queries.content.expand(batch, -1, -1)
        states = [x]
        predictions = [self.predict(x, memory.mask_features, queries.mask_head)]
        layers = zip(
            self.transformer_cross_attention_layers,
            self.transformer_self_attention_layers,
            self.transformer_ffn_layers,
            queries.positions,
            strict=True,
        )
        for index, (cross_attention, self_attention, feed_forward, positions) in enumerate(layers):
            level = index % LEVELS
            allowed = attention_mask(predictions[-1].masks, memory.shapes[level], self.mask_activation)
            x = cross_attention(x, positions, memory.tokens[level], memory.positions[level], allowed)
            x = feed_forward(self_attention(x, positions))
            states.append(x)
            predictions.append(self.predict(x, memory.mask_features, queries.mask_head))
        return tuple(predictions), tuple(states)

    def forward(
        self, mask_features: Tensor, maps: Sequence[Tensor]
    ) -> tuple[tuple[MaskPrediction, ...], tuple[Tensor, ...]]:
        """:meth:`decode` with the network's own queries."""
        return self.decode(self.memory(mask_features, maps), self.base_queries)


def attention_mask(masks: Tensor, shape: tuple[int, int], activation: MaskActivation = "sigmoid") -> Tensor:
    """Where each query may look: the cells its mask covers, or everywhere if that is nowhere.

    Args:
        masks: (B, Q, h, w) mask logits; no gradient flows into them.
        shape: (height, width) of the level to be read.
        activation: what turns mask logits, once resized, into probabilities.

    Returns:
        (B, Q, height · width) bool.
    """
    resized = F.interpolate(masks.detach(), size=shape, mode="bilinear", align_corners=False)
    blocked = (mask_probabilities(resized, activation) < 0.5).flatten(2)
    return ~blocked | blocked.all(dim=-1, keepdim=True)
