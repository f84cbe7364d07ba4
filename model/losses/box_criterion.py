"""The criterion of networks whose queries have boxes besides masks, and which may hold virtual queries.

SooLab et al., SimCIS, CVPR 2025, as released. Each class is a yes-or-no question, and there is no "no object": a query that
matches nothing answers no to all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.boxes import box_costs, box_losses, mask_boxes
from model.losses.matching import Match, Pairs, cross_entropy_cost, dice_cost
from model.losses.point_sampling import PointSource, sample_points
from model.losses.precision import at_least_single
from model.losses.query_focal import focal_cost, summed_focal_loss
from model.losses.set_criterion import SetCriterion, compared_type, mask_count
from model.losses.target_batch import TargetBatch


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
class BoxedBatch(TargetBatch):
    """Targets of all images with their boxes.

    Attributes:
        boxes: (T, 4), image after image.
        padded_boxes: (B, N, 4), those of each image and zeros.
    """

    boxes: Tensor
    padded_boxes: Tensor

    @classmethod
    def with_boxes(cls, targets: Sequence[BoxedTargets], dtype: torch.dtype) -> BoxedBatch:
        """Of the targets of each image, whose masks have one size."""
        plain = TargetBatch.of([one.targets for one in targets], dtype)
        boxes = [one.boxes.to(dtype) for one in targets]
        return cls(plain.counts, plain.labels, plain.padded, plain.masks, torch.cat(boxes), plain.padded_rows(boxes))


@dataclass(frozen=True)
class _Real:
    """The predictions of queries that are not virtual."""

    logits: Tensor
    masks: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, prediction: BoxedPrediction, count: int) -> _Real:
        """Of the first so many queries."""
        return cls(*(at_least_single(x)[:, :count] for x in (prediction.logits, prediction.masks, prediction.boxes)))


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
        first = predictions[0]
        normaliser = mask_count([one.targets for one in targets])
        count = first.logits.shape[1] - (0 if virtual_labels is None else virtual_labels.shape[1])
        with torch.autocast(first.logits.device.type, enabled=False):
            batch = BoxedBatch.with_boxes(targets, compared_type(first.masks))
            real = [_Real.of(prediction, count) for prediction in predictions]
            found = self.compared(real, batch, draw, names)
            labels = batch.query_labels(found.pairs, count, nothing=first.logits.shape[-1])
            losses = []
            for index, (prediction, of_queries) in enumerate(zip(predictions, labels, strict=True)):
                if virtual_labels is not None:
                    of_queries = torch.cat([of_queries, virtual_labels], dim=1)
                boxes = real[index].boxes.flatten(0, 1).index_select(0, found.pairs.queries[index])
                wanted = batch.boxes.index_select(0, found.pairs.targets[index])
                losses.append(
                    BoxedLosses(
                        summed_focal_loss(prediction.logits, of_queries, normaliser),
                        *found.masks[index].losses(normaliser),
                        *box_losses(boxes, wanted, normaliser),
                        found.matches[index],
                    )
                )
        return losses

    @torch.no_grad()
    def matched_pairs(
        self, prediction: BoxedPrediction, targets: Sequence[BoxedTargets], draw: PointSource, count: int
    ) -> tuple[Tensor, Tensor]:
        """Match the first ``count`` queries of each image alone.

        Returns:
            (M,) places among these queries of all images, and (M,) the label of the target that each one answers for.
        """
        batch = BoxedBatch.with_boxes(targets, compared_type(prediction.masks))
        points = torch.cat([draw(1, self.points) for _ in targets])
        matches = self.match([_Real.of(prediction, count)], batch, [points])
        pairs = Pairs.of(matches, count, batch.counts, batch.labels.device)
        return pairs.queries[0], batch.labels[pairs.targets[0]]

    def costs(self, prediction: Any, targets: TargetBatch, mask_targets: Tensor, points: Tensor) -> Tensor:
        assert isinstance(targets, BoxedBatch)
        mask_logits = sample_points(prediction.masks, points)  # B, Q, P
        difference, overlap = box_costs(prediction.boxes, targets.padded_boxes)
        return (
            self.class_cost * focal_cost(prediction.logits, targets.padded)
            + self.mask_cost * cross_entropy_cost(mask_logits, mask_targets)
            + self.dice_cost * dice_cost(mask_logits.sigmoid(), mask_targets)
            + self.box_cost * difference
            + self.overlap_cost * overlap
        )
