"""Mask2Former's criterion: match queries to targets, then compare classes and masks, for every set of predictions.

Cheng et al., "Masked-attention Mask Transformer", CVPR 2022, section 3.3; numbers and order of random draws as released.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

import torch
from torch import Tensor, distributed

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_activation import MaskActivation
from model.losses.mask_losses import dice_loss, mask_cross_entropy
from model.losses.matching import Match, assign, class_cost, cross_entropy_cost, dice_cost
from model.losses.point_sampling import PointSource, sample_points, undecided_points
from model.losses.precision import at_least_single
from model.losses.query_classification import QueryClassification

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
        normaliser = mask_count(targets, predictions[-1].logits.device)
        last, *others = (
            self.prediction_losses(prediction, targets, class_loss, draw, normaliser, names)
            for prediction in (predictions[-1], *predictions[:-1])
        )
        return [*others, last]

    def prediction_losses(
        self,
        prediction: Prediction,
        targets: Sequence[MaskTargets],
        class_loss: ClassLoss,
        draw: PointSource,
        normaliser: float,
        names: Sequence[str] | None = None,
    ) -> PredictionLosses:
        """Losses of one set of predictions; see :meth:`__call__`."""
        with torch.autocast(prediction.logits.device.type, enabled=False):
            matches = self.match(prediction, targets, draw, names)
            labels = query_labels(targets, matches, prediction.logits)
            mask, dice = self.mask_losses(prediction.masks, targets, matches, draw, normaliser)
            return PredictionLosses(class_loss(prediction.logits, labels), mask, dice, matches)

    @torch.no_grad()
    def match(
        self,
        prediction: Prediction,
        targets: Sequence[MaskTargets],
        draw: PointSource,
        names: Sequence[str] | None = None,
    ) -> list[Match]:
        """Assign queries to targets; all masks of an image are compared at the same points."""
        costs = []
        for logits, masks, target in zip(prediction.logits, prediction.masks, targets, strict=True):
            points = draw(1, self.points)
            mask_targets = sample_points(target.masks[None].to(at_least_single(masks).dtype), points)[0]  # N, P
            costs.append(
                self.costs(at_least_single(logits), at_least_single(masks), target.labels, mask_targets, points)
            )
        return assign(costs, names)

    def costs(self, logits: Tensor, masks: Tensor, labels: Tensor, mask_targets: Tensor, points: Tensor) -> Tensor:
        """What each pair of query and target costs.

        Args:
            logits: (Q, K + 1).
            masks: (Q, h, w) mask logits.
            labels: (N,) of the targets.
            mask_targets: (N, P) their masks at the points.
            points: (1, P, 2).

        Returns:
            (Q, N).
        """
        mask_logits = sample_points(masks[None], points)[0]  # Q, P
        return (
            self.class_cost * class_cost(logits, labels)
            + self.mask_cost * cross_entropy_cost(mask_logits, mask_targets)
            + self.dice_cost * dice_cost(mask_logits.sigmoid(), mask_targets)
        )

    def mask_losses(
        self,
        masks: Tensor,
        targets: Sequence[MaskTargets],
        matches: Sequence[Match],
        draw: PointSource,
        normaliser: float,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy and Dice loss of the matched masks, at points drawn for each of them.

        Args:
            masks: (B, Q, h, w) mask logits.
            targets, matches: of each image.
            draw: source of the points.
            normaliser: number of target masks.
        """
        logits = matched(at_least_single(masks), [match.queries for match in matches])  # N, 1, h, w
        points = undecided_points(logits, self.points, draw, self.oversampling, self.importance)
        mask_logits = sample_points(logits, points)[:, 0]
        mask_targets = sample_points(target_masks(targets, matches, logits.dtype), points)[:, 0]
        return (
            mask_cross_entropy(mask_logits, mask_targets, normaliser),
            dice_loss(mask_logits.sigmoid(), mask_targets, normaliser),
        )


def matched(masks: Tensor, queries: Sequence[Tensor]) -> Tensor:
    """Masks (B, Q, h, w) of the given queries of each image, image after image: (N, 1, h, w)."""
    return torch.cat([image[index.to(image.device)] for image, index in zip(masks, queries, strict=True)])[:, None]


def target_masks(targets: Sequence[MaskTargets], matches: Sequence[Match], dtype: torch.dtype) -> Tensor:
    """Masks (N, 1, H, W) of the matched targets, in the order of :func:`matched`."""
    wanted = [
        target.masks[match.targets.to(target.masks.device)] for target, match in zip(targets, matches, strict=True)
    ]
    return torch.cat(wanted).to(dtype)[:, None]


def query_labels(
    targets: Sequence[MaskTargets], matches: Sequence[Match], logits: Tensor, nothing: int | None = None
) -> Tensor:
    """The label each query should predict: (B, Q) int64, where it answers for no target ``nothing``, the last column if None."""
    nothing = logits.shape[-1] - 1 if nothing is None else nothing
    labels = torch.full(logits.shape[:2], nothing, dtype=torch.int64, device=logits.device)
    for row, target, match in zip(labels, targets, matches, strict=True):
        row[match.queries.to(row.device)] = target.labels[match.targets.to(row.device)]
    return labels


def mask_count(targets: Sequence[MaskTargets], device: torch.device | str) -> float:
    """Number of target masks that mask losses are divided by: the mean over processes, at least 1."""
    count = sum(len(target) for target in targets)
    if distributed.is_available() and distributed.is_initialized():
        total = torch.tensor(float(count), device=device)
        distributed.all_reduce(total)
        return max(total.item() / distributed.get_world_size(), 1.0)
    return float(max(count, 1))
