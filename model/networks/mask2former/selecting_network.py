"""Mask2Former whose queries are chosen among the cells of the image (``mask2former-simcis``).

SimCIS (CVPR 2025). State-dict names are those of its public checkpoints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from model.losses.box_criterion import BoxCriterion
from model.networks.arguments import Channels, Count
from model.networks.backbones.detectron_resnet import NormName
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.networks.mask2former.outputs import MaskOutputs
from model.networks.mask2former.selecting_decoder import (
    BoxPrediction,
    PreallocatedHead,
    SelectingDecoder,
    Selection,
)


@dataclass(frozen=True)
class SelectedOutputs(MaskOutputs):
    """A forward pass whose queries are cells. ``predictions`` begin with those of the cells themselves.

    Attributes:
        selection: the cells that became queries, with gradient.
        virtual_labels: (B, V) classes of the virtual queries, which stand last in all predictions; None without any.
        distilled: what the network says about the cells that the old model chose; None if it was not asked.
    """

    predictions: tuple[BoxPrediction, ...]
    selection: Selection
    virtual_labels: Tensor | None = None
    distilled: Distilled | None = None


@dataclass(frozen=True)
class Distilled:
    """What a network says about the cells that another network chose.

    Attributes:
        selected: (B, Q, K) class logits of the cells.
        final: (B, Q, K) class logits behind the last layer, of queries that start from these cells; None if that was not asked.
    """

    selected: Tensor
    final: Tensor | None


@dataclass(frozen=True)
class VirtualQueries:
    """Remembered queries that stand for classes which no image shows.

    Attributes:
        vectors: (B, V, C).
        labels: (B, V) int64.
    """

    vectors: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Comparison:
    """Cells of the old model that the new one is asked about.

    Attributes:
        positions: (B, Q) int64.
        decode: whether queries that start from them pass the decoder as well.
        own_boxes: whether these have the reference boxes of their own cells; as released they have those of the cells that the
            network itself chose.
    """

    positions: Tensor
    decode: bool = False
    own_boxes: bool = False


class SelectingMask2Former(Mask2Former):
    """Backbone, pixel decoder, and a mask decoder that chooses its queries."""

    @property
    def selecting(self) -> SelectingDecoder:
        """The mask decoder, of its actual type."""
        predictor = self.predictor
        assert isinstance(predictor, SelectingDecoder)
        return predictor

    def forward(
        self, images: Tensor, virtual: VirtualQueries | None = None, comparison: Comparison | None = None
    ) -> SelectedOutputs:
        """Predict.

        Args:
            images: (B, 3, H, W) normalised RGB; H and W are multiples of 32.
            virtual: queries that take part in the classification alone.
            comparison: cells of the old model to be asked about.
        """
        features = self.backbone(images)
        mask_features, maps = self.sem_seg_head.pixel_decoder(features)
        decoded = select_and_decode(self.selecting, mask_features, maps, virtual, comparison)
        height, width = images.shape[-2:]
        return replace(decoded, features=features, image_size=(height, width))


def select_and_decode(
    decoder: SelectingDecoder,
    mask_features: Tensor,
    maps: Sequence[Tensor],
    virtual: VirtualQueries | None = None,
    comparison: Comparison | None = None,
) -> SelectedOutputs:
    """What the mask decoder makes of the pixel decoder's output; without the backbone's maps and the size of the images."""
    memory = decoder.memory(mask_features, maps)
    cells = decoder.cells(memory)
    selection = decoder.selection(cells, decoder.choose(cells))
    features, boxes, count = selection.features, selection.boxes, 0
    if virtual is not None:
        count = virtual.vectors.shape[1]
        features = torch.cat([features, virtual.vectors.to(features.dtype)], dim=1)
        boxes = torch.cat([boxes, boxes.new_zeros(len(boxes), count, 4)], dim=1)
    first = decoder.predict_boxed(features, boxes, mask_features)
    later, states = decoder.decode_boxes(memory, first, features, boxes, count)
    distilled = None
    if comparison is not None:
        other = decoder.selection(cells, comparison.positions)
        final = None
        if comparison.decode:
            start = other.features.detach()
            own = other.boxes if comparison.own_boxes else selection.boxes
            again, _ = decoder.decode_boxes(memory, decoder.predict_boxed(start, own, mask_features), start, own)
            final = again[-1].logits
        distilled = Distilled(decoder.class_logits(other.features), final)
    return SelectedOutputs(
        (first, *later),
        (features, *states),
        mask_features,
        {},
        (0, 0),
        decoder.mask_activation,
        selection,
        None if virtual is None else virtual.labels,
        distilled,
    )


def build_simcis(
    classes_per_step: Sequence[int],
    *,
    classes: Count,
    unseen_columns: bool = True,
    backbone: str = "resnet50",
    norm: NormName = "frozen-bn",
    channels: Channels = 256,
    pixel_channels: Channels | None = None,
    mask_channels: Channels | None = None,
    queries: Count = 100,
    encoder_layers: Count = 6,
    encoder_heads: Count = 8,
    encoder_points: Count = 4,
    encoder_feed_forward: Channels = 1024,
    decoder_layers: Count = 9,
    decoder_heads: Count = 8,
    decoder_feed_forward: Channels = 2048,
    points: Count = 112 * 112,
) -> SelectingMask2Former:
    """Build a freshly initialised network; the defaults are the published ResNet-50 configuration.

    Args:
        classes_per_step: classes of every step so far.
        classes: of all steps, those to come too: the class head has a column for each from the start, and none for "no object".
        unseen_columns: whether classes that are not learnt yet take part: in choosing queries, as negatives in the class loss,
            and in what is distilled (as released). False leaves their columns alone until their step comes.
        backbone, norm, channels, pixel_channels, mask_channels, queries, encoder_layers, encoder_heads, encoder_points,
            encoder_feed_forward, decoder_layers, decoder_heads, decoder_feed_forward, points: of
            :func:`~model.networks.mask2former.network.build_mask2former`; as many queries are chosen as there are cells, at most.

    Raises:
        ValueError: for a backbone or normalisation that does not exist, channels that do not divide, or too few classes.
    """
    plain = build_mask2former(  # everything but the decoder is taken from it
        classes_per_step[:1],
        head="joint",
        backbone=backbone,
        norm=norm,
        channels=channels,
        pixel_channels=pixel_channels,
        mask_channels=mask_channels,
        queries=queries,
        encoder_layers=encoder_layers,
        encoder_heads=encoder_heads,
        encoder_points=encoder_points,
        encoder_feed_forward=encoder_feed_forward,
        decoder_layers=decoder_layers,
        decoder_heads=decoder_heads,
        decoder_feed_forward=decoder_feed_forward,
        points=points,
    )
    predictor = SelectingDecoder(
        channels if pixel_channels is None else pixel_channels,
        PreallocatedHead(channels, classes_per_step, classes, unseen_columns),
        channels=channels,
        mask_channels=channels if mask_channels is None else mask_channels,
        queries=queries,
        layers=decoder_layers,
        heads=decoder_heads,
        feed_forward=decoder_feed_forward,
    )
    return SelectingMask2Former(
        plain.backbone, plain.sem_seg_head.pixel_decoder, predictor, BoxCriterion(points=points)
    )
