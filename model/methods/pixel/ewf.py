"""EWF: endpoints weight fusion, on MiB (``ewf``) or PLOP (``ewf-plop``).

Xiao, Zhang, Feng, Liu, van de Weijer & Cheng, "Endpoints Weight Fusion for Class Incremental Semantic Segmentation", CVPR 2023.

After a step the network is replaced by an average of what it was before and what it has become; the more classes are known, the
less the step counts. It costs no second network at test time and follows any host, here MiB or PLOP
(:mod:`model.methods.pixel.mib`, :mod:`model.methods.pixel.plop`), whose old classifiers are frozen besides:

    L = CE(q, y) + λ · KD(q', z_old)          on MiB; q, q', z_old and y there
    θ ← (1 − α) · θ_old + α · θ               after the step, entry by entry, running statistics too
    α = sqrt(N / (N + K_old))

    θ_old   the previous step's network as it was passed on: averaged itself, and before this step's classifier was initialised
    N       number of the step's classes
    K_old   channels before the step, background included
    λ       distillation_weight, 10 on VOC and in 100-50, 100 in ADE20K 100-10 and 100-5

The averaged network is evaluated, starts the next step and is its old network. The new classifier has no counterpart and stays
as it is. MiB's initialisation lowers the background bias, which nothing raises again where old classifiers are frozen: after the
step it has sunk by α · log(N + 1), as released.

Switches: ``fusion_weight`` puts a number in the place of α (1 = the host alone, 0 = the old network and the new classifier),
``moved_share`` averages only that share of the scalars, those that moved most (an option of the released code, 0.45 there, which
no released script uses).

Verified against: g_ewf (both rules on arbitrary states; growth, losses, gradients, freezing and averages of several steps).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.background_losses import background_losses
from model.losses.classification import cross_entropy, unbiased_cross_entropy
from model.losses.distillation import knowledge_distillation, unbiased_knowledge_distillation
from model.methods.base import Context, ParameterGroup, State, StepContext, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.methods.pixel.plop import PLOP
from model.networks.deeplabv3.initialisation import initialise_from_background
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.weight_fusion import balanced_weight, fuse
from model.scenario import Step

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Fused(PixelMethod):
    """Frozen old classifiers and the average after the step; the host, next in the order of inheritance, does the rest."""

    freeze_old_classifiers: bool = True
    fusion_weight: Share | None = None
    moved_share: Share | None = None

    needs_old_model = True
    reads_old_parameters = True

    def trainable(self, network: Any, step: Step) -> Trainable:
        old = network.cls[:-1] if step.index and self.freeze_old_classifiers else ()
        fixed = {id(parameter) for classifier in old for parameter in classifier.parameters()}
        return Trainable((ParameterGroup(tuple(p for p in network.parameters() if id(p) not in fixed)),))

    @torch.no_grad()
    def after_step(self, context: StepContext[PixelBatch]) -> State:
        if context.old_model is not None:
            step = context.step
            released = balanced_weight(len(step.current), 1 + len(step.past))
            weight = released if self.fusion_weight is None else self.fusion_weight
            states = context.old_model.state_dict(), context.network.state_dict()
            context.network.load_state_dict(fuse(*states, weight, self.moved_share))
        return super().after_step(context)


@dataclass(frozen=True)
class EWF(Fused):
    """On MiB. The fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 10.0
    unbiased_classification: bool = True
    unbiased_distillation: bool = True
    background_initialisation: bool = True

    def grow(self, network: Any, step: Step) -> None:
        network.grow(len(step.current))
        if self.background_initialisation:
            initialise_from_background(network.cls)

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
        if self.unbiased_classification and self.unbiased_distillation:
            compact = outputs.compact_logits, old_outputs.compact_logits
            classification, distillation = background_losses(*compact, targets)
            return {"classification": classification, "distillation": self.distillation_weight * distillation}
        logits = outputs.logits
        distil = unbiased_knowledge_distillation if self.unbiased_distillation else knowledge_distillation
        return {
            "classification": unbiased_cross_entropy(logits, targets, old_outputs.logits.shape[1])
            if self.unbiased_classification
            else cross_entropy(logits, targets),
            "distillation": self.distillation_weight * distil(logits, old_outputs.logits),
        }


@dataclass(frozen=True)
class EWFonPLOP(Fused, PLOP):
    """On PLOP, whose fields these are besides."""
