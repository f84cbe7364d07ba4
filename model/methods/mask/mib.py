"""Modeling the Background (MiB) on a mask-classification network, as CoMFormer's authors carried it over.

Cermelli et al., "Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020; on masks: Cermelli,
Cord & Douillard, "CoMFormer", CVPR 2023.

"No object" is the background of a mask network: a query that matches no label of this step may show an old class, and what the
old model calls "no object" may be a new class. Both are allowed for.

    L = Σ_layers (λ_class · Focal_u + λ_mask · CE + λ_dice · Dice) + λ · KD_u

    Focal_u    the network's class loss, the probability of "no object" being that of "no object" or any old class
    CE, Dice   masks of matched queries, at sampled points
    KD_u       mean_q KL(o_q ‖ p'_q) of the last layer; o the old model's softmax, p' the new one with new classes added to
               "no object"
    λ          distillation_weight

There are no pseudo targets.

Verified against: f_comformer (unbiased class loss and distillation, with gradients).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor

from model.data.loading.mask_batch import MaskBatch
from model.losses.class_distillation import class_distillation
from model.losses.query_classification import QueryClassification
from model.losses.set_criterion import ClassLoss
from model.methods.base import Context, Weight, prediction_field
from model.methods.mask.base import MaskMethod
from model.networks.mask2former.outputs import MaskOutputs


@dataclass(frozen=True)
class MaskMiB(MaskMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 200.0
    object_threshold: float = prediction_field(0.0)
    overlap_threshold: float = prediction_field(0.0)
    semantic_reading: Literal["votes", "regions"] = prediction_field("regions")

    needs_old_model = True

    def class_loss(self, context: Context, batch: MaskBatch) -> ClassLoss:
        classification: QueryClassification = context.network.criterion.classification
        return partial(classification, no_object_weight=self.no_object_weight, old_classes=len(context.step.past))

    def losses(
        self,
        context: Context,
        batch: MaskBatch,
        outputs: MaskOutputs,
        old_outputs: MaskOutputs | None,
        targets: object,
    ) -> dict[str, Tensor]:
        terms = super().losses(context, batch, outputs, old_outputs, targets)
        if old_outputs is not None:
            distilled = class_distillation(outputs.logits, old_outputs.logits, reweighted=False)
            terms["class_distillation"] = self.distillation_weight * distilled
        return terms
