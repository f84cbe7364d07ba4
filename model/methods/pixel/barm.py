"""BARM: background adaptation with residual modelling.

Zhang & Gao, "Background Adaptation with Residual Modeling for Exemplar-Free Class-Incremental Semantic Segmentation", ECCV 2024.

What is background changes from step to step, but little: each step adds a branch that classifies its classes and corrects the
background logit by a residual, which may only lower it, and only where the step's classes are. All outputs are binary
classifiers, and what earlier steps have learnt is held head by head:

    L = BCE(z, ỹ) + λ_t · T(r_t) + λ_r · R(r_t) + λ_f · Σ_s MSE_N(E_s, E_s_old) + λ_g · Σ_s KD(h_s, h_s_old)

    z       (B, 1 + K, H, W)     logits, background first (:func:`model.networks.deeplabv3.barm_network.unified_logits`); those of
                                 past classes pass no gradient, the background's passes through the newest residual alone
    ỹ       (B, H, W)            the visible label; the old network's class where none is visible, its largest sigmoid is that
                                 class's and at least score_threshold; 255 = ignore; the mean is over pixels not ignored
    r_t     (B, h, w)            residual of the present step
    T       max(0, (1 − σ(r))² − σ(r)²), mean over N, where the visible label is background
    R       BCE(r, 0), mean over positions of the present step's classes
    E_s     (B, C, h, w)         features of the branch of step s; MSE_N counts differences outside N as 0
    h_s     (B, 1 + N_s, h, w)   outputs of step s as they are; KD is a binary cross-entropy with the old sigmoids, summed over
                                 channels
    λ_t, λ_r, λ_f, λ_g           triplet_weight 5, residual_weight 1, feature_weight 4, group_weight 1

A branch starts as the base step's. From step 1 on all normalisation is frozen; the new branch and head learn fastest, the pyramid
pooling with pooling_factor, everything older with old_factor. At test time sigmoids, not logits, are brought to the size of the
image. Two released accidents, each with a switch:

    ``released_statistics``   the running statistics of a new branch are not those of the base branch but stay at 0 and 1
    ``released_dropout``      dropout, frozen together with normalisation, is woken up again by the next epoch

Verified against: g_barm (one background, pseudo-labels, all terms with gradients, prototypes), the official names and shapes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.data.prepared.labels import IGNORE
from model.losses.background_adaptation import (
    background_feature_distillation,
    coarse_labels,
    group_distillation,
    residual_on_new_classes,
    residual_triplet,
)
from model.losses.classification import binary_cross_entropy
from model.losses.score_pseudo_labels import score_pseudo_labels
from model.methods.base import Context, ParameterGroup, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.barm_network import BranchOutputs, copy_base_branch
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.layers import dropouts, normalisations
from model.scenario import Step


@dataclass(frozen=True)
class BARM(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults for PASCAL VOC (ADE20K: factors 0.1 and 0.01)."""

    score_threshold: Annotated[float, Field(ge=0, le=1)] = 0.7
    triplet_weight: Weight = 5.0
    residual_weight: Weight = 1.0
    feature_weight: Weight = 4.0
    group_weight: Weight = 1.0
    backbone_factor: Weight = 0.1
    pooling_factor: Weight = 1.0
    old_factor: Weight = 0.1
    released_statistics: bool = True
    released_dropout: bool = True

    base_method: ClassVar[str | None] = None
    base_fields = ("backbone_factor",)
    needs_old_model = True
    freezes_batch_norm = True
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {"name": ("deeplabv3-barm",)}

    def grow(self, network: Any, step: Step) -> None:
        network.grow(len(step.current))
        copy_base_branch(network.classifier, statistics=not self.released_statistics)

    def trainable(self, network: Any, step: Step) -> Trainable:
        classifier = network.classifier
        if step.index == 0:
            backbone = ParameterGroup(tuple(network.backbone.parameters()), self.backbone_factor)
            return Trainable((backbone, ParameterGroup(tuple(classifier.parameters()))))
        norms = normalisations(network)
        fixed = {id(parameter) for module in norms for parameter in module.parameters()}

        def group(modules: Iterable[nn.Module], factor: float) -> ParameterGroup:
            members = (p for module in modules for p in module.parameters() if id(p) not in fixed)
            return ParameterGroup(tuple(members), factor)

        *older, newest = zip(classifier.branches, classifier.head, strict=True)
        groups = (
            group(newest, 1.0),
            group((classifier.aspp,), self.pooling_factor),
            group((network.backbone, *(module for pair in older for module in pair)), self.old_factor),
        )
        return Trainable(groups, norms if self.released_dropout else (*norms, *dropouts(network)))

    def targets(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> Tensor:
        if old_outputs is None:
            return batch.labels
        return score_pseudo_labels(batch.labels, old_outputs.logits.sigmoid(), 1, self.score_threshold)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        logits, past = outputs.logits, len(context.step.past)
        if old_outputs is None:
            return {"classification": binary_cross_entropy(logits, targets, "mean-valid")}
        assert isinstance(outputs, BranchOutputs) and isinstance(old_outputs, BranchOutputs)
        learning = torch.cat([logits[:, :1], logits[:, 1 : 1 + past].detach(), logits[:, 1 + past :]], dim=1)
        residual = outputs.heads[-1][:, 0]
        labels = coarse_labels(batch.labels, residual.shape[1:])  # without pseudo-labels: hidden classes are background
        nothing_new, new = labels == 0, (labels > past) & (labels != IGNORE)
        features = background_feature_distillation(outputs.branches, old_outputs.branches, nothing_new)
        return {
            "classification": binary_cross_entropy(learning, targets, "mean-valid"),
            "triplet": self.triplet_weight * residual_triplet(residual, nothing_new),
            "residual": self.residual_weight * residual_on_new_classes(residual, new),
            "features": self.feature_weight * features,
            "groups": self.group_weight * group_distillation(outputs.heads, old_outputs.heads),
        }

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        """Label map (B, H, W): the largest sigmoid, the background's among them; sigmoids are brought to the logits' size."""
        assert outputs.coarse_logits is not None
        scores, size = outputs.coarse_logits.sigmoid(), outputs.logits.shape[2:]
        return functional.interpolate(scores, size=size, mode="bilinear", align_corners=False).argmax(dim=1)
