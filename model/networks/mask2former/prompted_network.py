"""Mask2Former with groups of prompts, and the constructor that recipes use (``mask2former-eclipse``).

Kim, Yu & Hwang, "ECLIPSE: Efficient Continual Learning in Panoptic Segmentation with Visual Prompt Tuning", CVPR 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from model.networks.arguments import Channels, Count
from model.networks.backbones.detectron_resnet import NormName
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.networks.mask2former.outputs import MaskOutputs
from model.networks.mask2former.prompted_decoder import PromptedDecoder


@dataclass(frozen=True)
class PromptedOutputs(MaskOutputs):
    """A forward pass whose queries come in groups.

    Attributes:
        group_sizes: number of queries of each group that was run, in the order of the predictions: the newest
            group alone in training mode, all of them in evaluation mode.
        classes_per_step: classes of each step; group t belongs to the classes of step t.
    """

    group_sizes: tuple[int, ...]
    classes_per_step: tuple[int, ...]


class PromptedMask2Former(Mask2Former):
    """Mask2Former whose steps have queries of their own; state-dict names are those of the public ECLIPSE checkpoints."""

    @property
    def prompted(self) -> PromptedDecoder:
        """The mask decoder, of its actual type."""
        predictor = self.predictor
        assert isinstance(predictor, PromptedDecoder)
        return predictor

    @property
    def newest(self) -> nn.ModuleList:
        """What belongs to the last step, see :attr:`PromptedDecoder.newest`."""
        return self.prompted.newest

    def grow(self, new_classes: int) -> None:
        """Append a group of prompts and a class head for a new step."""
        self.prompted.grow(new_classes)

    def forward(self, images: Tensor) -> PromptedOutputs:
        """Predict with the newest group in training mode, with all groups in evaluation mode."""
        sizes = self.prompted.group_sizes
        outputs = super().forward(images)
        return PromptedOutputs(
            **vars(outputs),
            group_sizes=sizes[-1:] if self.training else sizes,
            classes_per_step=tuple(self.classes_per_step),
        )


def build_eclipse(
    classes_per_step: Sequence[int],
    *,
    prompts: Count = 10,
    deep_prompts: bool = True,
    deep_heads: bool = True,
    own_no_object: bool = False,
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
) -> PromptedMask2Former:
    """Build a freshly initialised network; the defaults are the published ResNet-50 configuration.

    Args:
        classes_per_step: classes of every step so far, without "no object".
        prompts, deep_prompts, deep_heads, own_no_object: of :class:`PromptedDecoder`.
        backbone, norm, channels, pixel_channels, mask_channels, queries, encoder_layers, encoder_heads, encoder_points,
            encoder_feed_forward, decoder_layers, decoder_heads, decoder_feed_forward, points: of
            :func:`~model.networks.mask2former.network.build_mask2former`.

    Raises:
        ValueError: for a backbone or normalisation that does not exist, channels that do not divide, or no prompts.
    """
    if prompts < 1:
        raise ValueError(f"Mask2Former: prompts = {prompts} must be at least 1")
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
    predictor = PromptedDecoder(
        channels if pixel_channels is None else pixel_channels,
        classes_per_step,
        prompts=prompts,
        deep_prompts=deep_prompts,
        deep_heads=deep_heads,
        own_no_object=own_no_object,
        channels=channels,
        mask_channels=channels if mask_channels is None else mask_channels,
        queries=queries,
        layers=decoder_layers,
        heads=decoder_heads,
        feed_forward=decoder_feed_forward,
    )
    return PromptedMask2Former(plain.backbone, plain.sem_seg_head.pixel_decoder, predictor, plain.criterion)
