"""The mask decoder with groups of prompts: queries that are added for the classes of a step.

Kim, Yu & Hwang, "ECLIPSE: Efficient Continual Learning in Panoptic Segmentation with Visual Prompt Tuning", CVPR 2024,
section 3; what new parts start from and their names as in the released code.

Group 0 holds the queries of the base step, group t the prompts of step t: content, positions and mask head of its own.
Groups share all layers and class heads but never attend to each other, so each is decoded separately.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from model.networks.mask2former.attention import Perceptron
from model.networks.mask2former.decoder import MaskedAttentionDecoder, Memory, QuerySet
from model.networks.mask2former.outputs import MaskPrediction
from model.networks.mask2former.perceptron_heads import PerceptronHeads

Decoded = tuple[tuple[MaskPrediction, ...], tuple[Tensor, ...]]
"""Predictions and queries, of the raw queries first, then behind each layer."""


class PromptedDecoder(MaskedAttentionDecoder):
    """Queries of the base step and prompts of every later one.

    Args:
        inputs: channels of the pixel decoder's maps.
        classes_per_step: classes of every step so far.
        prompts: N, of every group but the first.
        deep_prompts: whether prompts have positions for each layer, or the same for all.
        deep_heads: whether class heads are perceptrons, or linear layers.
        own_no_object: whether each group of prompts has a "no object" perceptron of its own at test time. The released code
            never reads it in training, so it keeps random weights, and no released configuration has one.
        channels, mask_channels, queries, layers, heads, feed_forward: of the mask decoder.
    """

    def __init__(
        self,
        inputs: int,
        classes_per_step: Sequence[int],
        *,
        prompts: int = 10,
        deep_prompts: bool = True,
        deep_heads: bool = True,
        own_no_object: bool = False,
        channels: int = 256,
        mask_channels: int = 256,
        queries: int = 100,
        layers: int = 9,
        heads: int = 8,
        feed_forward: int = 2048,
    ) -> None:
        base, *increments = classes_per_step
        head = PerceptronHeads(channels, [base], deep_heads)
        super().__init__(inputs, head, channels, mask_channels, queries, layers, heads, feed_forward)
        self.prompts, self.deep_prompts, self.own_no_object = prompts, deep_prompts, own_no_object
        self.prompt_feat = nn.ModuleList()
        self.prompt_embed = nn.ModuleList()
        self.prompt_mask_embed = nn.ModuleList()
        self.prompt_no_obj_embed = nn.ModuleList()
        for classes in increments:
            self.grow(classes)

    @property
    def class_heads(self) -> PerceptronHeads:
        """The class head, of its actual type."""
        head = self.class_head
        assert isinstance(head, PerceptronHeads)
        return head

    @property
    def group_sizes(self) -> tuple[int, ...]:
        """Number of queries of each group."""
        return tuple(len(group.content) for group in self.groups)

    @property
    def groups(self) -> list[QuerySet]:
        """Queries of the base step, then prompts of every later one."""
        layers = len(self.transformer_ffn_layers)
        prompted = zip(self.prompt_feat, self.prompt_embed, self.prompt_mask_embed, strict=True)
        return [
            self.base_queries,
            *(QuerySet(_rows(content), _positions(embed, layers), mask_head) for content, embed, mask_head in prompted),
        ]

    @property
    def newest(self) -> nn.ModuleList:
        """What ECLIPSE trains in an increment: the last group, the heads of its classes and that of "no object"."""
        assert len(self.prompt_feat), "the base step has no prompts"
        groups = (self.prompt_feat, self.prompt_embed, self.prompt_mask_embed)
        return nn.ModuleList([*(group[-1] for group in groups), self.class_heads.newest, self.class_heads.no_object])

    @torch.no_grad()
    def grow(self, classes: int) -> None:
        """Append a group of prompts and a class head.

        All prompts are the mean of the base step's queries, in content as in position; mask and class head are copies of
        the base step's and of "no object". Only the matching distinguishes the prompts.
        """
        self.class_heads.grow(classes)
        self.prompt_feat.append(self._mean(self.query_feat))
        layers = len(self.transformer_ffn_layers)
        if self.deep_prompts:
            self.prompt_embed.append(nn.ModuleList(self._mean(self.query_embed) for _ in range(layers)))
        else:
            self.prompt_embed.append(self._mean(self.query_embed))
        self.prompt_mask_embed.append(copy.deepcopy(self.mask_embed))
        if self.own_no_object:
            rows = self.query_feat.weight
            width = rows.shape[1]
            self.prompt_no_obj_embed.append(Perceptron(width, width, width, 1).to(rows.device, rows.dtype))

    def _mean(self, table: nn.Embedding) -> nn.Embedding:
        return nn.Embedding.from_pretrained(table.weight.mean(dim=0).repeat(self.prompts, 1), freeze=False)

    def decode_group(self, memory: Memory, index: int) -> Decoded:
        """Let one group read the image, see :meth:`decode`."""
        predictions, states = self.decode(memory, self.groups[index])
        if self.own_no_object and index > 0 and not self.training:
            head = self.prompt_no_obj_embed[index - 1]
            own = [head(self.decoder_norm(state)) for state in states]
            predictions = tuple(
                replace(prediction, logits=torch.cat([prediction.logits[..., :-1], no_object], dim=-1))
                for prediction, no_object in zip(predictions, own, strict=True)
            )
        return predictions, states

    def decode_groups(self, memory: Memory, indices: Sequence[int]) -> Decoded:
        """Several groups, one after the other along the queries."""
        predictions, states = zip(*(self.decode_group(memory, index) for index in indices), strict=True)
        joined = tuple(
            MaskPrediction(torch.cat([p.logits for p in stage], dim=1), torch.cat([p.masks for p in stage], dim=1))
            for stage in zip(*predictions, strict=True)
        )
        return joined, tuple(torch.cat(stage, dim=1) for stage in zip(*states, strict=True))

    def forward(self, mask_features: Tensor, maps: Sequence[Tensor]) -> Decoded:
        """The newest group in training mode, all groups in evaluation mode."""
        count = len(self.prompt_feat) + 1
        return self.decode_groups(self.memory(mask_features, maps), [count - 1] if self.training else range(count))


def _rows(table: nn.Module) -> Tensor:
    assert isinstance(table, nn.Embedding)  # a ModuleList does not know the type of its modules
    return table.weight


def _positions(embed: nn.Module, layers: int) -> list[Tensor]:
    return [_rows(table) for table in embed] if isinstance(embed, nn.ModuleList) else [_rows(embed)] * layers
