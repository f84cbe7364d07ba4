"""Incremental Learning Techniques for semantic segmentation (ILT).

Michieli & Zanuttigh, "Incremental Learning Techniques for Semantic Segmentation", ICCV Workshops 2019, in the form that the
released MiB code compares with.

The previous step's network is distilled twice: at the output, as in LwF, and in the features that the backbone passes to
the head.

    L = CE(z, y) + λ · KD(z, z_old) + μ · mean (F - F_old)²

    z        (B, K, H, W)       logits of the network, background first
    z_old    (B, K_old, H, W)   logits of the previous step's network
    F, F_old (B, C, h, w)       output of the backbone of either network
    y        (B, H, W)          labels visible in this step, 255 = ignore; the mean is over all pixels
    λ, μ                        distillation_weight, feature_weight

Two options of the released code of SDR, off there as here: ``feature_region: old`` leaves out pixels labelled as a new class, and
``feature_cosine`` compares directions, 1 − cos of the two vectors of a pixel.

Verified against: g_mib_losses (step_ILT: value and gradients of a complete training step), g_sdr (the options).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.losses.distillation import feature_distillation, knowledge_distillation
from model.losses.reduced_labels import labels_at
from model.methods.base import Context, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs


@dataclass(frozen=True)
class ILT(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 100.0
    feature_weight: Weight = 100.0
    feature_region: Literal["everywhere", "old"] = "everywhere"
    feature_cosine: bool = False

    needs_old_model = True

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        losses = {"classification": cross_entropy(outputs.logits, targets)}
        if old_outputs is not None:
            distillation = knowledge_distillation(outputs.logits, old_outputs.logits)
            losses["distillation"] = self.distillation_weight * distillation
            region = None
            if self.feature_region == "old":
                region = labels_at(targets, outputs.body) < old_outputs.logits.shape[1]
            features = feature_distillation(outputs.body, old_outputs.body, region, cosine=self.feature_cosine)
            losses["features"] = self.feature_weight * features
        return losses
