"""BalConpas: balanced continual panoptic segmentation.

Chen, Cong, Luo, Ip & Wang, "Strike a Balance in Continual Panoptic Segmentation", ECCV 2024.

What the old model sees in a new image becomes additional targets, so that past classes are not taught as "no object". The
queries that these targets are matched to are held where the old model had them, in every decoder layer. Exemplars, chosen
so that class frequencies stay those of all data (see :mod:`model.memory.class_proportional`), carry labels of past classes
only here and there: their unmatched queries do not count as "no object", and those of the other images count more instead.

    L = Σ_layers (λ_class · CE_b + λ_mask · BCE + λ_dice · Dice) + λ_query · Σ_j mean_{i, q ∈ S_i} |F_j[i,q] − F_j_old[i,q]|²

    CE_b         balanced cross-entropy of the queries' classes
    BCE, Dice    masks of matched queries, at sampled points
    F_j          (B, Q, C) queries: raw, then behind each decoder layer
    S_i          queries that the last layer's matching gives to pseudo targets of image i
    λ_query      distillation_weight, 5 in all released configurations

Targets are pseudo targets, then ground truth; exemplars have ground truth only, but queries matched to their first n targets
enter S_i, n being the number of pseudo targets that were found and set aside (released code). An image is an exemplar if it
has a label that does not belong to the step: that is the released code's rule, and where exemplars are drawn from one memory it
is the same. Where nothing is in S_i, the distillation is 0; the released code stops with NaN.

Verified against: d_balconpas (pseudo targets, all terms, gradients, order of the class heads), d_memory (selection).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from model.common.devices import sent
from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.mask_pseudo_targets import OldPrediction, old_predictions, pseudo_targets
from model.losses.matching import Match
from model.losses.point_sampling import PointSource
from model.losses.query_losses import balanced_query_cross_entropy, query_distillation
from model.losses.set_criterion import Prediction, PredictionLosses, SetCriterion
from model.methods.base import Context, Weight
from model.methods.mask.base import MaskMethod, strange_images, sum_of
from model.networks.mask2former.outputs import MaskOutputs


@dataclass(frozen=True)
class BalConpasTargets:
    """What the losses compare with.

    Attributes:
        images: targets of each image: pseudo targets, then ground truth.
        pseudo: number of pseudo targets found in each image, also where they were set aside.
        replayed: (B,) bool, True for exemplars.
    """

    images: tuple[MaskTargets, ...]
    pseudo: tuple[int, ...]
    replayed: Tensor


@dataclass(frozen=True)
class BalConpas(MaskMethod):
    """The exemplar-free variant; the fields are the hyper-parameters, with the released defaults."""

    distillation_weight: Weight = 5.0
    pseudo_overlap_threshold: Weight = 0.8

    needs_old_model = True
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "name": ("mask2former",),
        "class_loss": ("cross-entropy",),
    }

    def targets(self, context: Context, batch: MaskBatch, old_outputs: MaskOutputs | None) -> BalConpasTargets:
        step = context.step
        replayed = strange_images(batch.labels, step)
        old = None
        if old_outputs is not None:
            size, activation = old_outputs.image_size, old_outputs.mask_activation
            old = old_predictions(old_outputs.logits, old_outputs.masks, size, activation)
        return merge_targets(batch.labels, old, replayed, self.pseudo_overlap_threshold)

    def losses(
        self,
        context: Context,
        batch: MaskBatch,
        outputs: MaskOutputs,
        old_outputs: MaskOutputs | None,
        targets: BalConpasTargets,
    ) -> dict[str, Tensor]:
        draw = self.point_source(outputs)
        per_layer = self.prediction_losses(context.network.criterion, outputs.predictions, targets, draw, batch.names)
        terms = self.weighted(per_layer)
        if old_outputs is not None:
            distilled = self.distillation(outputs.queries, old_outputs.queries, targets, per_layer[-1].matches)
            terms["query_distillation"] = self.distillation_weight * sum_of(distilled)
        return terms

    def prediction_losses(
        self,
        criterion: SetCriterion,
        predictions: Sequence[Prediction],
        targets: BalConpasTargets,
        draw: PointSource,
        names: Sequence[str] | None = None,
    ) -> list[PredictionLosses]:
        """Unweighted losses of every set of predictions, with the balanced class loss."""
        class_loss = partial(
            balanced_query_cross_entropy, replayed=targets.replayed, no_object_weight=self.no_object_weight
        )
        return criterion(predictions, targets.images, class_loss, draw, names)

    def distillation(
        self,
        queries: Sequence[Tensor],
        old_queries: Sequence[Tensor],
        targets: BalConpasTargets,
        matches: Sequence[Match],
    ) -> list[Tensor]:
        """Unweighted past-class backtrace distillation of each set of queries, all with the same matching."""
        on_host = torch.zeros(queries[-1].shape[:2], dtype=torch.bool)
        for row, count, match in zip(on_host, targets.pseudo, matches, strict=True):
            row[match.queries[match.targets < count]] = True
        selected = sent(on_host, queries[-1].device)
        return [query_distillation(new, old, selected) for new, old in zip(queries, old_queries, strict=True)]


@dataclass(frozen=True)
class BalConpasR(BalConpas):
    """BalConpas with exemplars; how many and which belongs to the experiment (300, class-proportional, in the paper)."""

    memory_policy = "annotations"


def merge_targets(
    ground_truth: Sequence[MaskTargets],
    old: Sequence[OldPrediction] | None,
    replayed: Tensor,
    overlap_threshold: float,
) -> BalConpasTargets:
    """Pseudo targets before the ground truth; exemplars keep theirs alone."""
    if old is None:
        return BalConpasTargets(tuple(ground_truth), (0,) * len(ground_truth), replayed)
    from_memory = replayed.tolist()
    known = [None if exemplar else truth.masks for truth, exemplar in zip(ground_truth, from_memory, strict=True)]
    found = pseudo_targets(old, known, overlap_threshold)
    images = tuple(
        truth if exemplar else pseudo.followed_by(truth)
        for truth, pseudo, exemplar in zip(ground_truth, found, from_memory, strict=True)
    )
    return BalConpasTargets(images, tuple(len(pseudo) for pseudo in found), replayed)
