"""The mask decoder whose queries are cells of the image: those that look most like a class.

SimCIS (CVPR 2025): lazy query pre-alignment; names, order of the layers and constants as in the released code. There are no
learned query tables. A query has a reference box, which gives its position and is moved by every layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.networks.mask2former.attention import Perceptron
from model.networks.mask2former.box_positions import encoded, moved, proposals
from model.networks.mask2former.class_heads import ClassHead
from model.networks.mask2former.decoder import LEVELS, MaskedAttentionDecoder, Memory, attention_mask
from model.networks.mask2former.outputs import MaskPrediction


@dataclass(frozen=True)
class BoxPrediction(MaskPrediction):
    """One set of predictions of queries with boxes; virtual queries stand last.

    Attributes:
        boxes: (B, Q, 4) centre x, centre y, width, height, as fractions of the padded image.
    """

    boxes: Tensor


@dataclass(frozen=True)
class Selection:
    """Cells that became queries.

    Attributes:
        positions: (B, Q) int64, of the best first; they count the cells of all levels, coarsest first, row by row.
        features: (B, Q, C) of the cells.
        boxes: (B, Q, 4) reference boxes.
    """

    positions: Tensor
    features: Tensor
    boxes: Tensor


@dataclass(frozen=True)
class Cells:
    """What queries are chosen from.

    Attributes:
        features: (B, S, C) of every cell, projected and normalised.
        proposals: (S, 4) logits of the box around every cell.
    """

    features: Tensor
    proposals: Tensor


class PreallocatedHead(nn.Linear, ClassHead):
    """One linear layer with a column for every class there will ever be, and none for "no object".

    Args:
        channels: of the queries' embeddings.
        classes_per_step: classes of every step so far.
        columns: classes of all steps.
        unseen: whether columns of classes that are not learnt yet are emitted.
    """

    name = "class_embed"

    def __init__(self, channels: int, classes_per_step: Sequence[int], columns: int, unseen: bool = True) -> None:
        super().__init__(channels, columns)
        self.unseen = unseen
        self._classes_per_step: list[int] = []  # stored, because nothing else tells steps apart
        for classes in classes_per_step:
            self.grow(classes)

    @property
    def classes_per_step(self) -> list[int]:
        return list(self._classes_per_step)

    def grow(self, classes: int) -> None:
        total = sum(self._classes_per_step) + classes
        if total > self.out_features:
            raise ValueError(
                f"the class head has {self.out_features} columns, but {total} classes are learnt; "
                "give the network as many 'classes' as the dataset has"
            )
        self._classes_per_step.append(classes)

    def forward(self, x: Tensor) -> Tensor:
        """(…, C) to (…, K) logits."""
        logits = super().forward(x)
        return logits if self.unseen else logits[..., : sum(self._classes_per_step)]


class SelectingDecoder(MaskedAttentionDecoder):
    """Cells to classes, masks and boxes.

    Args:
        inputs, class_head, channels, mask_channels, queries, layers, heads, feed_forward: of the mask decoder.
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
    ) -> None:
        super().__init__(inputs, class_head, channels, mask_channels, queries, layers, heads, feed_forward)
        del self.query_feat, self.query_embed
        self.queries = queries
        self.enc_output = nn.Linear(channels, channels)
        self.encoder_norm = nn.LayerNorm(channels)
        self.ref_point_head = Perceptron(2 * channels, channels, channels)
        self.query_scale = Perceptron(channels, channels, channels)
        self._bbox_embed = Perceptron(channels, channels, channels, 4)
        for parameter in self._bbox_embed.layers[-1].parameters():
            nn.init.zeros_(parameter)
        self.bbox_embed = nn.ModuleList(
            self._bbox_embed for _ in range(layers)
        )  # the same one, as in public checkpoints

    def cells(self, memory: Memory) -> Cells:
        """Every cell as a query that may be chosen; those at the border, which have no proposal, look alike."""
        boxes, valid = proposals(memory.shapes, memory.mask_features.device)
        tokens = torch.cat(list(memory.tokens), dim=1).masked_fill(~valid[:, None], 0.0)
        return Cells(self.encoder_norm(self.enc_output(tokens)), boxes.to(tokens.dtype))

    def class_logits(self, features: Tensor) -> Tensor:
        """Classes of cells or queries (…, C)."""
        return self.class_head(self.decoder_norm(features))

    def choose(self, cells: Cells) -> Tensor:
        """(B, Q) the cells whose largest class logit is largest, the best first."""
        with torch.no_grad():
            scores = self.class_logits(cells.features).amax(dim=-1)
            return scores.topk(min(self.queries, scores.shape[1]), dim=1).indices

    def selection(self, cells: Cells, positions: Tensor) -> Selection:
        """The cells at positions (B, Q)."""
        features = cells.features.gather(1, positions[..., None].expand(-1, -1, cells.features.shape[-1]))
        boxes = (self._bbox_embed(features) + cells.proposals[positions]).sigmoid()
        return Selection(positions, features, boxes)

    def predict_boxed(self, x: Tensor, boxes: Tensor, mask_features: Tensor) -> BoxPrediction:
        """Classes and masks of queries (B, Q, C), with their boxes."""
        plain = self.predict(x, mask_features, self.mask_embed)
        return BoxPrediction(plain.logits, plain.masks, boxes)

    def decode_boxes(
        self, memory: Memory, first: BoxPrediction, features: Tensor, boxes: Tensor, virtual: int = 0
    ) -> tuple[tuple[BoxPrediction, ...], tuple[Tensor, ...]]:
        """Let queries read the image; no gradient flows into what they start from.

        Args:
            memory: what they read.
            first: what the queries predict before the first layer.
            features: (B, Q, C) of the queries.
            boxes: (B, Q, 4) reference boxes.
            virtual: the last so many queries neither see nor are seen: they pass the feed-forward networks alone.

        Returns:
            Predictions behind each layer and the queries that they were made from, without ``first``.
        """
        x, boxes = features.detach(), boxes.detach()
        real = x.shape[1] - virtual
        predictions, states = [first], []
        layers = zip(
            self.transformer_self_attention_layers,
            self.transformer_cross_attention_layers,
            self.transformer_ffn_layers,
            self.bbox_embed,
            strict=True,
        )
        for index, (self_attention, cross_attention, feed_forward, move) in enumerate(layers):
            level = index % LEVELS
            allowed = attention_mask(predictions[-1].masks[:, :real], memory.shapes[level], self.mask_activation)
            seeing = x[:, :real]
            positions = self.query_scale(seeing) * self.ref_point_head(encoded(boxes[:, :real], x.shape[-1] // 2))
            seeing = self_attention(seeing, positions)
            seeing = cross_attention(seeing, positions, memory.tokens[level], memory.positions[level], allowed)
            x = feed_forward(torch.cat([seeing, x[:, real:]], dim=1))
            moved_boxes = moved(boxes, move(x))
            predictions.append(self.predict_boxed(x, moved_boxes, memory.mask_features))
            states.append(x)
            boxes = moved_boxes.detach()
        return tuple(predictions[1:]), tuple(states)
