"""Mask2Former's criterion: match queries to targets, then compare classes and masks, for every set of predictions.

Cheng et al., "Masked-attention Mask Transformer", CVPR 2022, section 3.3; numbers and order of random draws as released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_activation import MaskActivation
from model.losses.mask_losses import dice_loss, mask_cross_entropy
from model.losses.matching import Match, Pairs, assign, class_cost, cross_entropy_cost, dice_cost
from model.losses.point_sampling import Candidates, PointSource, draw_candidates, sample_points, undecided_among
from model.losses.precision import at_least_single
from model.losses.query_classification import QueryClassification
from model.losses.target_batch import TargetBatch

ClassLoss = Callable[[Tensor, Tensor], Tensor]
"""Class logits (B, Q, K + 1) and the label of each query (B, Q), K = "no object", to a scalar."""


class Prediction(Protocol):
    """One set of predictions."""

    @property
    def logits(self) -> Tensor:
        """(B, Q, K + 1) class logits, "no object" last."""

    @property
    def masks(self) -> Tensor:
        """(B, Q, h, w) mask logits."""


@dataclass(frozen=True)
class PredictionLosses:
    """Unweighted losses of one set of predictions, and the matching they rest on."""

    classification: Tensor
    mask: Tensor
    dice: Tensor
    matches: list[Match]


@dataclass(frozen=True)
class SetCriterion:
    """How predictions are matched and compared, for masks that are a sigmoid each.

    Attributes:
        mask_activation: of the masks that it compares.
        points: sampled for each mask, in the matching and in the losses.
        oversampling: candidates for each point of the mask losses.
        importance: share of points where the prediction is undecided.
        class_cost: weight of the class in the matching.
        mask_cost: weight of the mask cross-entropy in the matching.
        dice_cost: weight of the Dice overlap in the matching.
        classification: the class loss of the network.
    """

    mask_activation: ClassVar[MaskActivation] = "sigmoid"

    points: int = 112 * 112
    oversampling: float = 3.0
    importance: float = 0.75
    class_cost: float = 2.0
    mask_cost: float = 5.0
    dice_cost: float = 5.0
    classification: QueryClassification = field(default_factory=QueryClassification)

    def __call__(
        self,
        predictions: Sequence[Prediction],
        targets: Sequence[MaskTargets],
        class_loss: ClassLoss,
        draw: PointSource,
        names: Sequence[str] | None = None,
    ) -> list[PredictionLosses]:
        """Compare every set of predictions, each with its own matching.

        Args:
            predictions: of the raw queries, behind each layer, the last one last.
            targets: of each image.
            class_loss: compares the logits with the labels that the matching gives to the queries.
            draw: source of the sampled points; asked for the last predictions first, then for the others in order.
            names: of the images, for messages.

        Returns:
            In the order of ``predictions``.

        Raises:
            MatchingError: if predictions are not finite.
        """
        ordered = (predictions[-1], *predictions[:-1])
        normaliser = mask_count(targets)
        with torch.autocast(ordered[0].logits.device.type, enabled=False):
            found = self.compared(ordered, TargetBatch.of(targets, compared_type(ordered[0].masks)), draw, names)
            queries, columns = ordered[0].logits.shape[1:]
            labels = found.targets.query_labels(found.pairs, queries, columns - 1)
            last, *others = (
                PredictionLosses(class_loss(prediction.logits, of_queries), *masks.losses(normaliser), matches)
                for prediction, of_queries, masks, matches in zip(
                    ordered, labels, found.masks, found.matches, strict=True
                )
            )
        return [*others, last]

    def compared(
        self,
        predictions: Sequence[Prediction],
        targets: TargetBatch,
        draw: PointSource,
        names: Sequence[str] | None = None,
    ) -> Compared:
        """Match sets of predictions and sample their masks.

        All points are drawn first, set after set: the device then works through all sets before the host has to wait for it,
        once, for the costs of the matching.
        """
        queries = predictions[0].logits.shape[1]
        drawn = [self.draw_points(draw, targets, queries) for _ in predictions]
        matches = self.match(predictions, targets, [points for points, _ in drawn], names)
        pairs = Pairs.of(matches, queries, targets.counts, targets.labels.device)
        sampled = [
            self.sample_matched(at_least_single(prediction.masks), places, candidates)
            for prediction, places, (_, candidates) in zip(predictions, pairs.queries, drawn, strict=True)
        ]
        mask_targets = targets.at_own_points([points for points, _ in sampled], pairs)
        masks = [ComparedMasks(self, values, wanted) for (_, values), wanted in zip(sampled, mask_targets, strict=True)]
        return Compared(targets, matches, pairs, masks)

    def draw_points(self, draw: PointSource, targets: TargetBatch, queries: int) -> tuple[Tensor, Candidates]:
        """Points of one set of predictions: (B, P, 2) for the matching, then those for the losses."""
        common = torch.cat([draw(1, self.points) for _ in targets.counts])
        return common, draw_candidates(targets.pairs(queries), self.points, draw, self.oversampling, self.importance)

    @torch.no_grad()
    def match(
        self,
        predictions: Sequence[Prediction],
        targets: TargetBatch,
        points: Sequence[Tensor],
        names: Sequence[str] | None = None,
    ) -> list[list[Match]]:
        """Assign queries to targets in each set of predictions; all masks of an image are compared at the same points.

        Args:
            predictions: the sets.
            targets: of all images.
            points: (B, P, 2) for each set.
            names: of the images, for messages.

        Raises:
            MatchingError: if a cost is not finite.
        """
        mask_targets = targets.at_common_points(points)
        costs = [
            cost[:, :count]
            for prediction, wanted, of_set in zip(predictions, mask_targets, points, strict=True)
            for cost, count in zip(self.costs(prediction, targets, wanted, of_set), targets.counts, strict=True)
        ]
        matches = assign(costs, None if names is None else [*names] * len(predictions))
        images = len(targets.counts)
        return [matches[first : first + images] for first in range(0, len(matches), images)]

    def costs(self, prediction: Any, targets: TargetBatch, mask_targets: Tensor, points: Tensor) -> Tensor:
        """What each pair of query and target costs.

        Args:
            prediction: one set.
            targets: of all images.
            mask_targets: (B, N, P) their masks at the points.
            points: (B, P, 2).

        Returns:
            (B, Q, N).
        """
        mask_logits = sample_points(at_least_single(prediction.masks), points)  # B, Q, P
        return (
            self.class_cost * class_cost(at_least_single(prediction.logits), targets.padded)
            + self.mask_cost * cross_entropy_cost(mask_logits, mask_targets)
            + self.dice_cost * dice_cost(mask_logits.sigmoid(), mask_targets)
        )

    def sample_matched(
        self, masks: Tensor, queries: Tensor, candidates: Candidates
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Choose points for the matched masks, and sample there what the losses compare.

        Args:
            masks: (B, Q, h, w) mask logits.
            queries: (M,) places of the matched queries, see :class:`~model.losses.matching.Pairs`.
            candidates: for each of them.

        Returns:
            Points (M, P, 2), and the samples (M, P) that :meth:`mask_losses` takes.
        """
        logits = matched(masks, queries)
        points = undecided_among(logits, candidates)
        return points, (sample_points(logits, points)[:, 0],)

    def mask_losses(
        self, sampled: Sequence[Tensor], mask_targets: Tensor, normaliser: float | Tensor
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice loss of the matched masks.

        Args:
            sampled: what :meth:`sample_matched` found.
            mask_targets: (M, P) at the same points.
            normaliser: number of target masks.
        """
        (logits,) = sampled
        return (
            mask_cross_entropy(logits, mask_targets, normaliser),
            dice_loss(logits.sigmoid(), mask_targets, normaliser),
        )


@dataclass(frozen=True)
class ComparedMasks:
    """Samples of the matched masks of one set of predictions, and of their targets at the same points."""

    criterion: SetCriterion
    sampled: Sequence[Tensor]
    targets: Tensor

    def losses(self, normaliser: float | Tensor) -> tuple[Tensor, Tensor]:
        """Mask loss and Dice loss."""
        return self.criterion.mask_losses(self.sampled, self.targets, normaliser)


@dataclass(frozen=True)
class Compared:
    """What several sets of predictions have been compared with, set after set."""

    targets: TargetBatch
    matches: list[list[Match]]
    pairs: Pairs
    masks: list[ComparedMasks]


def compared_type(masks: Tensor) -> torch.dtype:
    """The precision that masks are compared in."""
    return torch.float32 if masks.dtype in (torch.float16, torch.bfloat16) else masks.dtype


def matched(masks: Tensor, queries: Tensor) -> Tensor:
    """Masks of some queries: (B, Q, h, w) and places (M,) to (M, 1, h, w)."""
    return masks.flatten(0, 1).index_select(0, queries)[:, None]


def mask_count(targets: Sequence[MaskTargets]) -> float:
    """Number of target masks of the whole batch, at least 1, that mask losses are divided by.

    As released it is the mean over processes, each with a part of the batch; here losses see whole batches.
    """
    return float(max(sum(len(target) for target in targets), 1))
