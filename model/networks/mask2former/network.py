"""Mask2Former as one module, and the constructor that recipes use.

Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from model.losses.mask_activation import MaskActivation
from model.losses.query_classification import ClassLossName, QueryClassification
from model.losses.set_criterion import SetCriterion
from model.losses.softmax_criterion import CRITERIA
from model.networks.arguments import Channels, Count
from model.networks.backbones.detectron_resnet import RESNETS, NormName
from model.networks.backbones.names import timm_model
from model.networks.mask2former.class_heads import CLASS_HEADS, ClassHeadName
from model.networks.mask2former.decoder import MaskedAttentionDecoder
from model.networks.mask2former.outputs import MaskOutputs
from model.networks.mask2former.pixel_decoder import NORM_GROUPS, PixelDecoder

SIZE_DIVISOR = 32
"""Images are padded to multiples of this."""


class SegmentationHead(nn.Module):
    """Pixel decoder and mask decoder under the names of the public checkpoints."""

    def __init__(self, pixel_decoder: PixelDecoder, predictor: MaskedAttentionDecoder) -> None:
        super().__init__()
        self.pixel_decoder = pixel_decoder
        self.predictor = predictor


class Mask2Former(nn.Module):
    """Backbone, pixel decoder, mask decoder.

    State-dict names are those of the public Mask2Former and BalConpas checkpoints.

    Attributes:
        criterion: how the network's masks are matched and compared. It belongs to the network, not to a method, so that
            all methods of a recipe share the base step.
    """

    def __init__(
        self,
        backbone: nn.Module,
        pixel_decoder: PixelDecoder,
        predictor: MaskedAttentionDecoder,
        criterion: SetCriterion,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.sem_seg_head = SegmentationHead(pixel_decoder, predictor)
        self.criterion = criterion

    @property
    def predictor(self) -> MaskedAttentionDecoder:
        """The mask decoder."""
        return self.sem_seg_head.predictor

    @property
    def mask_activation(self) -> MaskActivation:
        """What turns mask logits into probabilities, in the decoder, the criterion and all post-processing."""
        return self.predictor.mask_activation

    @property
    def classes_per_step(self) -> list[int]:
        """Number of classes of each step so far."""
        return self.predictor.class_head.classes_per_step

    def grow(self, new_classes: int) -> None:
        """Append the class outputs of a new step; everything else in the network is untouched."""
        self.predictor.class_head.grow(new_classes)

    def forward(self, images: Tensor) -> MaskOutputs:
        """Predict.

        Args:
            images: (B, 3, H, W) normalised RGB; H and W are multiples of 32, or at least divide into equal cells.
        """
        features = self.backbone(images)
        mask_features, maps = self.sem_seg_head.pixel_decoder(features)
        predictions, queries = self.predictor(mask_features, maps)
        height, width = images.shape[-2:]
        return MaskOutputs(predictions, queries, mask_features, features, (height, width), self.mask_activation)


def build_trunk(backbone: str, norm: NormName) -> Any:
    """The backbone of a recipe: a module with ``channels`` that gives four maps by stage.

    Args:
        backbone: a key of ``backbone.RESNETS``, or ``timm/`` and a name of timm.
        norm: its normalisation.

    Raises:
        ValueError: for a backbone or normalisation that does not exist.
    """
    if model := timm_model(backbone):
        # Imported here, or every network would depend on timm and on the code around it.
        return import_module("model.networks.backbones.timm").TimmPyramid(model, norm)
    if backbone not in RESNETS:
        raise ValueError(f"Mask2Former has no backbone '{backbone}'; choose one of {', '.join(RESNETS)}, or timm/…")
    return RESNETS[backbone](norm)


def build_mask2former(
    classes_per_step: Sequence[int],
    *,
    backbone: str = "resnet50",
    norm: NormName = "frozen-bn",
    head: ClassHeadName = "steps",
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
    mask_activation: MaskActivation = "sigmoid",
    class_loss: ClassLossName = "cross-entropy",
    focal_alpha: float = 5.0,
    focal_gamma: float = 1.0,
) -> Mask2Former:
    """Build a freshly initialised network; the defaults are the published ResNet-50 configuration.

    Args:
        classes_per_step: classes of every step so far, without "no object".
        backbone: a key of ``backbone.RESNETS``, or ``timm/`` and a name of timm.
        norm: normalisation of the backbone; ``frozen-bn`` makes sense only with pre-trained weights, ``own`` is for backbones
            of timm.
        head: a key of ``class_heads.CLASS_HEADS``: ``joint`` as in Mask2Former, ``steps`` as in BalConpas,
            ``separate-no-object`` as in CoMFormer.
        channels: of the queries; a multiple of 4 and of ``decoder_heads``.
        pixel_channels: of the pixel decoder, a multiple of 32 and of ``encoder_heads``; as ``channels`` if None.
        mask_channels: of the mask features, as ``channels`` if None.
        queries: number of queries.
        encoder_layers: of the pixel decoder.
        encoder_heads: of its attention.
        encoder_points: sampling points for each head and level.
        encoder_feed_forward: hidden width of its feed-forward networks.
        decoder_layers: of the mask decoder.
        decoder_heads: of its attention.
        decoder_feed_forward: hidden width of its feed-forward networks.
        points: sampled for each mask in the matching and in the losses.
        mask_activation: ``sigmoid`` as in Mask2Former, or ``softmax`` over the queries as in CoMFormer.
        class_loss: ``cross-entropy`` as in Mask2Former, or ``focal`` as in CoMFormer.
        focal_alpha: α of the focal loss.
        focal_gamma: γ of the focal loss.

    Raises:
        ValueError: for a backbone, normalisation or head that does not exist, or channels that do not divide.
    """
    if head not in CLASS_HEADS:
        raise ValueError(f"Mask2Former has no class head '{head}'; choose one of {', '.join(CLASS_HEADS)}")
    pixel_channels = channels if pixel_channels is None else pixel_channels
    mask_channels = channels if mask_channels is None else mask_channels
    for name, count, divisor in (
        ("pixel_channels (or channels)", pixel_channels, NORM_GROUPS),
        ("pixel_channels (or channels)", pixel_channels, encoder_heads),
        ("channels", channels, decoder_heads),
        ("channels", channels, 4),  # sine and cosine of two axes
    ):
        if count % divisor:
            raise ValueError(f"Mask2Former: {name} = {count} must be a multiple of {divisor}")
    trunk = build_trunk(backbone, norm)
    pixel_decoder = PixelDecoder(
        trunk.channels,
        channels=pixel_channels,
        mask_channels=mask_channels,
        layers=encoder_layers,
        heads=encoder_heads,
        points=encoder_points,
        feed_forward=encoder_feed_forward,
    )
    predictor = MaskedAttentionDecoder(
        pixel_channels,
        CLASS_HEADS[head](channels, classes_per_step),
        channels=channels,
        mask_channels=mask_channels,
        queries=queries,
        layers=decoder_layers,
        heads=decoder_heads,
        feed_forward=decoder_feed_forward,
        mask_activation=mask_activation,
    )
    classification = QueryClassification(class_loss, focal_alpha, focal_gamma)
    criterion = CRITERIA[mask_activation](points=points, classification=classification)
    return Mask2Former(trunk, pixel_decoder, predictor, criterion)
