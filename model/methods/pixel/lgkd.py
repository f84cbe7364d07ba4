"""LGKD: label-guided knowledge distillation, on PLOP and on MiB.

Yang, Li, Ling, Zhang, Wang, Huang, Ma, Hur & Lin, "Label-Guided Knowledge Distillation for Continual Semantic Segmentation on
2D Images and 3D Point Clouds", ICCV 2023.

What the old network calls background may be a new class, and the label knows: where a new class is labelled, the old
background's probability moves to that class; elsewhere new classes get none. The network's whole softmax is compared with
these targets, in addition to the losses of a host:

    lgkd       L = L_PLOP + μ · L_d                     classification and local POD of PLOP, the released preset
    lgkd-mib   L = CE(q, y) + μ · L_d                   unbiased cross-entropy of MiB, without its distillation

    L_d = −1/M · Σ_i ω_i Σ_k τ_ik · log softmax(s_i)_k

    s        (B, K, h, w)      coarse logits, before up-sampling
    τ        (B, K, h, w)      targets from the old coarse logits and the labels; no pseudo-labels
    labels   (B, h, w)         top-left of every cell of 16 x 16 pixels
    ω        previous_weight where the label is background or an old class, novel_weight where it is a new one
    M        pixels that are not ignored: a weight of 0 leaves them in
    μ        distillation_weight

Released weights (previous, novel): VOC 19-1: 5, 0.5; 15-5: 5, 1 (the defaults); 15-1: 1, 0; ADE20K 100-50: 1, 20; 100-10: 1, 1;
50-50: 2, 10. In the sequential setting the label of an old class counts like background.

Verified against: g_lgkd (distillation alone; values and gradients of complete training steps on both hosts).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy, unbiased_cross_entropy
from model.losses.label_guided_distillation import label_guided_distillation
from model.losses.reduced_labels import labels_at
from model.methods.base import Context, Weight
from model.methods.pixel.mib import MiB
from model.methods.pixel.plop import PLOP, PlopTargets
from model.networks.deeplabv3.outputs import PixelOutputs


def _coarse(outputs: PixelOutputs) -> Tensor:
    assert outputs.coarse_logits is not None  # every network of the family has them
    return outputs.coarse_logits


def _guided(
    batch: PixelBatch, outputs: PixelOutputs, old_outputs: PixelOutputs, previous_weight: float, novel_weight: float
) -> Tensor:
    logits, old_logits = _coarse(outputs), _coarse(old_outputs)
    labels = labels_at(batch.labels, logits)
    return label_guided_distillation(logits, old_logits, labels, previous_weight, novel_weight)


@dataclass(frozen=True)
class LGKD(PLOP):
    """PLOP's hyper-parameters and those of the distillation; the defaults are the released ones for PASCAL VOC 15-5."""

    distillation_weight: Weight = 1.0
    previous_weight: Weight = 5.0
    novel_weight: Weight = 1.0

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: PlopTargets,
    ) -> dict[str, Tensor]:
        losses = super().losses(context, batch, outputs, old_outputs, targets)
        if old_outputs is not None:
            guided = _guided(batch, outputs, old_outputs, self.previous_weight, self.novel_weight)
            losses["label_guided"] = self.distillation_weight * guided
        return losses


@dataclass(frozen=True)
class LGKDMiB(MiB):
    """On MiB: ``distillation_weight`` weighs the label-guided distillation, which replaces MiB's."""

    distillation_weight: Weight = 1.0
    previous_weight: Weight = 5.0
    novel_weight: Weight = 1.0

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        if old_outputs is None:
            return {"classification": cross_entropy(outputs.logits, targets)}
        old_channels = old_outputs.logits.shape[1]
        guided = _guided(batch, outputs, old_outputs, self.previous_weight, self.novel_weight)
        return {
            "classification": unbiased_cross_entropy(outputs.logits, targets, old_channels),
            "label_guided": self.distillation_weight * guided,
        }
