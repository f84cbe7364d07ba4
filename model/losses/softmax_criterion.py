"""The criterion of networks whose masks are a softmax over the queries.

Cermelli, Cord & Douillard, "CoMFormer: Continual Learning in Semantic and Panoptic Segmentation", CVPR 2023, released code.
Whole maps are turned into probabilities before they are sampled: a query's share of a pixel depends on all other queries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_activation import MaskActivation
from model.losses.mask_losses import assigned_mask_cross_entropy, dice_loss
from model.losses.matching import Match, class_cost, dice_overlap, harmonic_cost
from model.losses.point_sampling import PointSource, sample_points, undecided_points
from model.losses.precision import at_least_single
from model.losses.set_criterion import SetCriterion, matched, target_masks


@dataclass(frozen=True)
class SoftmaxSetCriterion(SetCriterion):
    """Pairs cost minus the harmonic mean of class probability and Dice overlap; the weights of costs are not read."""

    mask_activation: ClassVar[MaskActivation] = "softmax"

    def costs(self, logits: Tensor, masks: Tensor, labels: Tensor, mask_targets: Tensor, points: Tensor) -> Tensor:
        shares = sample_points(masks.softmax(dim=0)[None], points)[0]  # Q, P
        return harmonic_cost(-class_cost(logits, labels), dice_overlap(shares, mask_targets))

    def mask_losses(
        self,
        masks: Tensor,
        targets: Sequence[MaskTargets],
        matches: Sequence[Match],
        draw: PointSource,
        normaliser: float,
    ) -> tuple[Tensor, Tensor]:
        queries = [match.queries for match in matches]
        log_shares = at_least_single(masks).log_softmax(dim=1)  # B, Q, h, w
        log_shares, shares = matched(log_shares, queries), matched(log_shares.exp(), queries)  # N, 1, h, w
        points = undecided_points(shares, self.points, draw, self.oversampling, self.importance, boundary=0.5)
        mask_targets = sample_points(target_masks(targets, matches, shares.dtype), points)[:, 0]
        return (
            assigned_mask_cross_entropy(sample_points(log_shares, points)[:, 0], mask_targets, normaliser),
            dice_loss(sample_points(shares, points)[:, 0], mask_targets, normaliser),
        )


CRITERIA: dict[MaskActivation, type[SetCriterion]] = {"sigmoid": SetCriterion, "softmax": SoftmaxSetCriterion}
"""The criterion that goes with each kind of masks."""
