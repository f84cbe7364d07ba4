"""CoMFormer: continual learning of masks that share out the pixels.

Cermelli, Cord & Douillard, "CoMFormer: Continual Learning in Semantic and Panoptic Segmentation", CVPR 2023.

What the old model sees outside the labels becomes additional targets. Besides, the classes of each query are held where the old
model's query of the same index had them: what the old model calls "no object" may be a new class now, and queries count more the
surer the old model is that they are an object.

    L = Σ_layers (λ_class · Focal + λ_mask · CE + λ_dice · Dice) + λ · KD

    Focal      softmax focal loss of the queries' classes, the network's own (``class_loss: focal``)
    CE, Dice   masks of matched queries, at sampled points; masks are a softmax over the queries (``mask_activation: softmax``)
    KD         Σ_q w_q KL(o_q ‖ p'_q) / Σ_q w_q of the last layer, w_q = (1 − o_q∅)²;
               o the old model's softmax, p' the new one with new classes added to "no object"
    λ          distillation_weight: 10 in the read-me, scenario-specific in the scripts (docs/mask-networks.md)

Targets are the ground truth, then pseudo targets: queries of the old model whose class is not "no object" and more probable than
``pseudo_threshold``, with the pixels that they win outside the ground truth and cover with at least half. They need more won
pixels than ``pseudo_overlap_threshold`` times the pixels that they cover with at least half.

Verified against: f_comformer (class losses, distillation, pseudo targets, matching and mask losses with gradients), e_eclipse
(readings).
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.class_distillation import class_distillation
from model.methods.base import Context, Weight
from model.methods.mask.pseudo_targets import PseudoTargetMethod
from model.networks.mask2former.outputs import MaskOutputs


@dataclass(frozen=True)
class CoMFormer(PseudoTargetMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 10.0

    def losses(
        self,
        context: Context,
        batch: MaskBatch,
        outputs: MaskOutputs,
        old_outputs: MaskOutputs | None,
        targets: tuple[MaskTargets, ...],
    ) -> dict[str, Tensor]:
        terms = super().losses(context, batch, outputs, old_outputs, targets)
        if old_outputs is not None:
            distilled = class_distillation(outputs.logits, old_outputs.logits)
            terms["class_distillation"] = self.distillation_weight * distilled
        return terms
