"""What a mask-classification network returns."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.losses.mask_activation import MaskActivation


@dataclass(frozen=True)
class MaskPrediction:
    """One set of predictions: every query proposes a class and a mask.

    Attributes:
        logits: (B, Q, K + 1) class logits in learning order, "no object" last.
        masks: (B, Q, h, w) mask logits, a quarter of the images' resolution.
    """

    logits: Tensor
    masks: Tensor


@dataclass(frozen=True)
class MaskOutputs:
    """A forward pass.

    Attributes:
        predictions: from the raw queries first, then behind each decoder layer; the last one counts.
        queries: (B, Q, C) each: the raw queries, then the output of each decoder layer, before the final layer norm.
        mask_features: (B, C, h, w), stride 4.
        features: the backbone's maps by stage, ``res2`` (stride 4) … ``res5`` (stride 32).
        image_size: (H, W) of the padded images.
        mask_activation: what turns mask logits into probabilities.
    """

    predictions: tuple[MaskPrediction, ...]
    queries: tuple[Tensor, ...]
    mask_features: Tensor
    features: dict[str, Tensor]
    image_size: tuple[int, int]
    mask_activation: MaskActivation

    @property
    def logits(self) -> Tensor:
        """Class logits (B, Q, K + 1) of the last prediction."""
        return self.predictions[-1].logits

    @property
    def masks(self) -> Tensor:
        """Mask logits (B, Q, h, w) of the last prediction."""
        return self.predictions[-1].masks
