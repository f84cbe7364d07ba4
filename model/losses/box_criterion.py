"""The criterion of networks whose queries have boxes besides masks, and which may hold virtual queries.

SooLab et al., SimCIS, CVPR 2025, as released. Each class is a yes-or-no question, and there is no "no object": a query that
matches nothing answers no to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.boxes import box_costs, box_losses, mask_boxes
from model.losses.matching import Match, assign, cross_entropy_cost, dice_cost
from model.losses.point_sampling import PointSource, sample_points
from model.losses.precision import at_least_single
from model.losses.query_focal import focal_cost, summed_focal_loss
from model.losses.set_criterion import SetCriterion, mask_count, query_labels


class BoxedPrediction(Protocol):
    """One set of predictions; virtual queries stand last."""

    @property
    def logits(self) -> Tensor:
        """(B, Q + V, K) class logits."""

    @property
    def masks(self) -> Tensor:
        """(B, Q + V, h, w) mask logits."""

    @property
    def boxes(self) -> Tensor:
        """(B, Q + V, 4) boxes."""


@dataclass(frozen=True)
class BoxedTargets:
    """Targets of one image with the boxes of their masks.

    Attributes:
        targets: classes and masks.
        boxes: (N, 4).
    """

    targets: MaskTargets
    boxes: Tensor

    @classmethod
    def of(cls, targets: MaskTargets) -> BoxedTargets:
        """With tight boxes."""
        return cls(targets, mask_boxes(targets.masks))


@dataclass(frozen=True)
class BoxedLosses:
    """Unweighted losses of one set of predictions, and the matching they rest on."""

    classification: Tensor
    mask: Tensor
    dice: Tensor
    box: Tensor
    overlap: Tensor
    matches: list[Match]


@dataclass(frozen=True)
class BoxCriterion(SetCriterion):
    """How boxes and masks are matched and compared.

    Attributes:
        class_cost: weight of the focal class cost in the matching.
        box_cost: weight of the absolute difference of boxes in the matching.
        overlap_cost: weight of their generalised overlap in the matching.
    """

    class_cost: float = 4.0
    box_cost: float = 5.0
    overlap_cost: float = 2.0

    def compare(
        self,
        predictions: Sequence[BoxedPrediction],
        targets: Sequence[BoxedTargets],
        virtual_labels: Tensor | None,
        draw: PointSource,
        names: Sequence[str] | None = None,
    ) -> list[BoxedLosses]:
        """Compare sets of predictions in the given order, each with its own matching.

        Args:
            predictions: the sets.
            targets: of each image.
            virtual_labels: (B, V) classes of the virtual queries, which enter the class loss alone; None if there are none.
            draw: source of the sampled points.
            names: of the images, for messages.

        Raises:
            MatchingError: if predictions are not finite.
        """
        normaliser = mask_count([one.targets for one in targets], predictions[0].logits.device)
        with torch.autocast(predictions[0].logits.device.type, enabled=False):
            return [self._losses(one, targets, virtual_labels, draw, normaliser, names) for one in predictions]

    def _losses(
        self,
        prediction: BoxedPrediction,
        targets: Sequence[BoxedTargets],
        virtual_labels: Tensor | None,
        draw: PointSource,
        normaliser: float,
        names: Sequence[str] | None,
    ) -> BoxedLosses:
        logits, masks, boxes = (at_least_single(x) for x in (prediction.logits, prediction.masks, prediction.boxes))
        virtual = 0 if virtual_labels is None else virtual_labels.shape[1]
        count = logits.shape[1] - virtual
        matches = self.match_boxes(logits[:, :count], masks[:, :count], boxes[:, :count], targets, draw, names)
        plain = [one.targets for one in targets]
        labels = query_labels(plain, matches, logits[:, :count], nothing=logits.shape[-1])
        if virtual_labels is not None:
            labels = torch.cat([labels, virtual_labels], dim=1)
        mask, dice = self.mask_losses(masks[:, :count], plain, matches, draw, normaliser)
        matched = torch.cat(
            [image[match.queries.to(image.device)] for image, match in zip(boxes, matches, strict=True)]
        )
        wanted = torch.cat(
            [one.boxes[match.targets.to(one.boxes.device)] for one, match in zip(targets, matches, strict=True)]
        )
        box, overlap = box_losses(matched, wanted.to(matched.dtype), normaliser)
        return BoxedLosses(summed_focal_loss(logits, labels, normaliser), mask, dice, box, overlap, matches)

    @torch.no_grad()
    def match_boxes(
        self,
        logits: Tensor,
        masks: Tensor,
        boxes: Tensor,
        targets: Sequence[BoxedTargets],
        draw: PointSource,
        names: Sequence[str] | None = None,
    ) -> list[Match]:
        """Assign queries (B, Q, …) to targets; all masks of an image are compared at the same points."""
        costs = []
        for z, m, b, target in zip(logits, masks, boxes, targets, strict=True):
            z, m, b = at_least_single(z), at_least_single(m), at_least_single(b)
            points = draw(1, self.points)
            mask_logits = sample_points(m[None], points)[0]  # Q, P
            mask_targets = sample_points(target.targets.masks[None].to(m.dtype), points)[0]  # N, P
            difference, overlap = box_costs(b, target.boxes.to(b.dtype))
            costs.append(
                self.class_cost * focal_cost(z, target.targets.labels)
                + self.mask_cost * cross_entropy_cost(mask_logits, mask_targets)
                + self.dice_cost * dice_cost(mask_logits.sigmoid(), mask_targets)
                + self.box_cost * difference
                + self.overlap_cost * overlap
            )
        return assign(costs, names)
