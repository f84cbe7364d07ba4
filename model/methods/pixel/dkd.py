"""DKD: decomposed knowledge distillation.

Baek, Oh, Lee, Lee & Ham, "Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation", NeurIPS 2022.

Each class has a binary classifier; there is no background channel. As the features that the classifiers read are never negative,
a logit is the sum of reasons for the class and reasons against it, and both are distilled, not their sum alone. A classifier
that has only ever seen negatives, the auxiliary one, is where those of new classes start:

    L = BCE_new(z, y) + λ · KD(z, z_old) + λ⁺ · KD(z⁺, z⁺_old) + λ⁻ · KD(z⁻, z⁻_old) + λ_a · BCE(z_a, 0)

    BCE_new     new classes against all else, past classes, background and void (255) alike; positives weigh positive_weight
    z           (B, K, H, W)   logits of the classes
    z⁺, z⁻      (B, K, h, w)   Σ_d x_d · max(w_d, 0) and Σ_d x_d · min(w_d, 0), before up-sampling and without bias
    z_a         (B, 1, H, W)   logit of the auxiliary classifier; no gradient flows into the features
    KD          binary cross-entropy with the old sigmoids; like all terms a mean over pixels and a sum over classes
    λ, λ⁺, λ⁻   distillation_weight, positive_reasoning_weight, negative_reasoning_weight, 5 each
    λ_a         auxiliary_weight, 1

From step 1 on all normalisation layers and dropout are frozen, and only the new classifier has weight decay. The head and all
classifiers learn ten times as fast as the backbone. With a memory (DKD-M) exemplars are added to the step's images; what they
show of past classes is hidden like in any other image.

Verified against: g_dkd (all terms, gradients of features and classifiers, initialisation, decision), official names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.distillation import sigmoid_distillation
from model.losses.foreground import decide_foreground, foreground_cross_entropy, negatives
from model.losses.reasoning_distillation import reasoning_distillation
from model.methods.base import Context, ParameterGroup, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.initialisation import initialise_from_auxiliary
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.layers import dropouts, normalisations
from model.scenario import Step


@dataclass(frozen=True)
class DKD(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults for PASCAL VOC (ADE20K: both positive weights 35)."""

    base_positive_weight: Weight = 2.0
    positive_weight: Weight = 1.0
    distillation_weight: Weight = 5.0
    positive_reasoning_weight: Weight = 5.0
    negative_reasoning_weight: Weight = 5.0
    auxiliary_weight: Weight = 1.0
    head_factor: Weight = 10.0
    old_weight_decay: Weight = 0.0

    base_method: ClassVar[str | None] = None
    base_fields = ("base_positive_weight", "auxiliary_weight", "head_factor")
    needs_old_model = True
    reads_old_parameters = True
    freezes_batch_norm = True
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "name": ("deeplabv3",),
        "head": ("dkd",),
        "background": (False,),
        "auxiliary": (True,),
    }
    unsupported: ClassVar[Mapping[tuple[str, str], str]] = {
        (
            "sequential",
            "semantic",
        ): "its losses read the labels of current classes alone; those of past classes, which this setting keeps, change nothing",
    }

    def grow(self, network: Any, step: Step) -> None:
        network.grow(len(step.current))
        initialise_from_auxiliary(network.cls)

    def trainable(self, network: Any, step: Step) -> Trainable:
        frozen = (*normalisations(network), *dropouts(network)) if step.index else ()
        fixed = {id(parameter) for module in frozen for parameter in module.parameters()}
        decay = self.old_weight_decay if step.index else None

        def group(module: nn.Module, factor: float, weight_decay: float | None) -> ParameterGroup:
            return ParameterGroup(tuple(p for p in module.parameters() if id(p) not in fixed), factor, weight_decay)

        *old, new = network.cls
        return Trainable(
            (
                group(network.backbone, 1.0, decay),
                group(network.aspp, self.head_factor, decay),
                *(group(classifier, self.head_factor, decay) for classifier in old),
                group(new, self.head_factor, None),
            ),
            frozen,
        )

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        past = len(context.step.past)
        positive_weight = self.positive_weight if past else self.base_positive_weight
        new_logits = outputs.logits[:, 1 + past :]
        terms = {
            "classification": foreground_cross_entropy(new_logits, targets, past + 1, positive_weight),
            "auxiliary": self.auxiliary_weight * negatives(outputs.logits[:, :1]),
        }
        if old_outputs is None:
            return terms
        positive, negative = reasoning_distillation(
            outputs.pre_logits,
            class_weights(context.network)[:past],
            old_outputs.pre_logits,
            class_weights(context.old_model),
        )
        return {
            **terms,
            "distillation": self.distillation_weight
            * sigmoid_distillation(outputs.logits[:, 1:], old_outputs.logits[:, 1:]),
            "positive_reasoning": self.positive_reasoning_weight * positive,
            "negative_reasoning": self.negative_reasoning_weight * negative,
        }

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        """Label map (B, H, W): the class with the largest sigmoid if that exceeds 0.5, else background."""
        return decide_foreground(outputs.logits[:, 1:])


@dataclass(frozen=True)
class DKDM(DKD):
    """DKD with exemplars (100 images on VOC, 300 on ADE20K, class-balanced); labels of past classes in them are hidden."""

    base_method = "dkd"
    memory_policy = "annotations"


def class_weights(network: Any) -> Tensor:
    """(K, C, 1, 1): classifiers of all classes, without the auxiliary one."""
    return torch.cat([classifier.weight for classifier in network.cls[1:]])
