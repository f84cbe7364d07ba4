"""The criterion of networks whose masks are a softmax over the queries.

Cermelli, Cord & Douillard, "CoMFormer: Continual Learning in Semantic and Panoptic Segmentation", CVPR 2023, released code.
Whole maps are turned into probabilities before they are sampled: a query's share of a pixel depends on all other queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from model.losses.mask_activation import MaskActivation
from model.losses.mask_losses import assigned_mask_cross_entropy, dice_loss
from model.losses.matching import class_cost, dice_overlap, harmonic_cost
from model.losses.point_sampling import Candidates, sample_points, undecided_among
from model.losses.precision import at_least_single
from model.losses.set_criterion import SetCriterion, matched
from model.losses.target_batch import TargetBatch


@dataclass(frozen=True)
class SoftmaxSetCriterion(SetCriterion):
    """Pairs cost minus the harmonic mean of class probability and Dice overlap; the weights of costs are not read."""

    mask_activation: ClassVar[MaskActivation] = "softmax"

    def costs(self, prediction: Any, targets: TargetBatch, mask_targets: Tensor, points: Tensor) -> Tensor:
        shares = sample_points(at_least_single(prediction.masks).softmax(dim=1), points)  # B, Q, P
        certain = -class_cost(at_least_single(prediction.logits), targets.padded)
        return harmonic_cost(certain, dice_overlap(shares, mask_targets))

    def sample_matched(
        self, masks: Tensor, queries: Tensor, candidates: Candidates
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        log_shares = masks.log_softmax(dim=1)  # B, Q, h, w
        log_shares, shares = matched(log_shares, queries), matched(log_shares.exp(), queries)  # M, 1, h, w
        points = undecided_among(shares, candidates, boundary=0.5)
        return points, (sample_points(log_shares, points)[:, 0], sample_points(shares, points)[:, 0])

    def mask_losses(
        self, sampled: Sequence[Tensor], mask_targets: Tensor, normaliser: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        log_shares, shares = sampled
        return (
            assigned_mask_cross_entropy(log_shares, mask_targets, normaliser),
            dice_loss(shares, mask_targets, normaliser),
        )


CRITERIA: dict[MaskActivation, type[SetCriterion]] = {"sigmoid": SetCriterion, "softmax": SoftmaxSetCriterion}
"""The criterion that goes with each kind of masks."""
