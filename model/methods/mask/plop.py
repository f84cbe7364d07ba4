"""PLOP on a mask-classification network, as CoMFormer's authors carried it over.

Douillard et al., "PLOP: Learning without Forgetting for Continual Semantic Segmentation", CVPR 2021; on masks: Cermelli, Cord &
Douillard, "CoMFormer", CVPR 2023.

The old model's masks become additional targets, as in CoMFormer, and features are compared with the old model's by means along
their rows and columns at several scales.

    L = Σ_layers (λ_class · Focal + λ_mask · CE + λ_dice · Dice) + λ · √(|C_t| / n_t) · POD

    Focal      the network's class loss
    CE, Dice   masks of matched queries, at sampled points
    POD        mean of local_pod over the backbone's four maps and the mask features, none of them squared
               (:func:`model.losses.pooled_distillation.local_pod`)
    λ          feature_weight; |C_t| classes of this step, n_t of all so far

Verified against: f_comformer (pseudo targets, pooled distillation with gradients, class and mask losses).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field
from torch import Tensor

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.pooled_distillation import local_pod
from model.methods.base import Context, Weight
from model.methods.mask.base import sum_of
from model.methods.mask.pseudo_targets import PseudoTargetMethod
from model.networks.mask2former.outputs import MaskOutputs


@dataclass(frozen=True)
class MaskPLOP(PseudoTargetMethod):
    """The fields are the hyper-parameters, with the released defaults."""

    feature_weight: Weight = 0.001
    scales: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)] = (1, 2, 4)

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
            weight = self.feature_weight * math.sqrt(len(context.step.current) / len(context.step.seen))
            terms["feature_distillation"] = weight * self.distillation(outputs, old_outputs)
        return terms

    def distillation(self, outputs: MaskOutputs, old_outputs: MaskOutputs) -> Tensor:
        """Unweighted pooled distillation, the mean over five maps."""
        pairs = [(outputs.features[stage], old_outputs.features[stage]) for stage in sorted(outputs.features)]
        pairs.append((outputs.mask_features, old_outputs.mask_features))
        return sum_of([local_pod(new, old, self.scales, squared=False) for new, old in pairs]) / len(pairs)
