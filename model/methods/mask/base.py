"""Base of the methods on networks that predict sets of masks (Mask2Former): the common losses and post-processing.

Targets of an image are a class and a mask for each segment. The hooks of :mod:`model.methods.base` keep their meaning:

* ``targets`` returns the batch's own targets, one :class:`~model.data.loading.mask_batch.MaskTargets` for each image.
* ``losses`` sums over the predictions of the raw queries and of every decoder layer

      L = Σ_layers  λ_class · CE + λ_mask · BCE + λ_dice · Dice

  after matching queries to targets in each of them. How masks are sampled, matched and compared belongs to the network, and
  so does the class loss: cross-entropy (CE) or CoMFormer's focal loss.
* ``predict`` chooses the class and mask logits that count at test time; ``semantic``, ``panoptic`` and ``instances`` read
  class logits and mask probabilities, one image at a time.

Verified against: c_matcher_criterion (losses), b_inference (post-processing).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.point_sampling import PointSource, uniform_points
from model.losses.query_losses import balanced_query_cross_entropy
from model.losses.set_criterion import ClassLoss, PredictionLosses
from model.methods.base import (
    Context,
    Method,
    MethodError,
    ParameterGroup,
    RecipeLike,
    Trainable,
    Weight,
    prediction_field,
)
from model.networks.mask2former.assembly import (
    Candidates,
    Instances,
    Masks,
    Segment,
    assemble_panoptic,
    assemble_semantic,
    best_instances,
    resize_labels,
    semantic_votes,
    sure_queries,
)
from model.networks.mask2former.outputs import MaskOutputs, MaskPrediction
from model.scenario import Scenario, Step

UNDECAYED = (nn.BatchNorm2d, nn.SyncBatchNorm, nn.GroupNorm, nn.LayerNorm, nn.Embedding)
"""Modules whose own parameters have no weight decay."""


@dataclass(frozen=True)
class MaskMethod(Method[MaskBatch, MaskOutputs]):
    """The fields are the hyper-parameters that all methods of the family share, with Mask2Former's defaults.

    In semantic segmentation all queries vote on every pixel (``votes``, Mask2Former), or a pixel has the class of the query
    that wins it, or none (``regions``, CoMFormer and ECLIPSE).
    """

    class_weight: Weight = 2.0
    mask_weight: Weight = 5.0
    dice_weight: Weight = 5.0
    no_object_weight: Weight = 0.1
    object_threshold: float = prediction_field(0.8)
    overlap_threshold: float = prediction_field(0.8)
    max_detections: int = prediction_field(100)
    semantic_reading: Literal["votes", "regions"] = prediction_field("votes")

    family = "mask"
    tasks: ClassVar[tuple[str, ...]] = ("panoptic", "semantic", "instance")
    base_method: ClassVar[str | None] = "finetuning"
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {"name": ("mask2former",)}
    base_fields: ClassVar[tuple[str, ...] | None] = ("class_weight", "mask_weight", "dice_weight", "no_object_weight")

    def check(self, recipe: RecipeLike, scenario: Scenario, setting: str, task: str) -> None:
        super().check(recipe, scenario, setting, task)
        if recipe.network.get("head") == "joint" and len(scenario.increments) > 1 and not self.all_at_once:
            raise MethodError(
                "the recipe's network.head is 'joint', which cannot learn further classes: use 'steps' or 'separate-no-object'"
            )

    def trainable(self, network: nn.Module, step: Step) -> Trainable:
        """All parameters; normalisations and embeddings without weight decay (as released).

        The recipe's ``optimiser.backbone_factor`` (0.1 as released) sets how much slower the backbone trains.
        """
        return Trainable(parameter_groups(network))

    def losses(
        self, context: Context, batch: MaskBatch, outputs: MaskOutputs, old_outputs: MaskOutputs | None, targets: Any
    ) -> dict[str, Tensor]:
        draw = self.point_source(outputs)
        class_loss = self.class_loss(context, batch)
        return self.weighted(context.network.criterion(outputs.predictions, targets, class_loss, draw, batch.names))

    def class_loss(self, context: Context, batch: MaskBatch) -> ClassLoss:
        """The network's own class loss.

        Where labels of the next step leak into the batch (``leak_next_class`` of a recipe, a quirk of BalConpas's released
        semantic numbers), the released class loss takes such images for exemplars, in the base step too.
        """
        if batch.leaked:
            strange = strange_images(batch.labels, context.step)
            return partial(balanced_query_cross_entropy, replayed=strange, no_object_weight=self.no_object_weight)
        return partial(context.network.criterion.classification, no_object_weight=self.no_object_weight)

    def point_source(self, outputs: MaskOutputs) -> PointSource:
        """Where the points of the mask losses come from: torch's global generator of the outputs' device."""
        return uniform_points(outputs.logits.device)

    def weighted(self, per_layer: Sequence[PredictionLosses]) -> dict[str, Tensor]:
        """Terms of the loss: each summed over all sets of predictions and weighted."""
        return {
            "classification": self.class_weight * sum_of([losses.classification for losses in per_layer]),
            "mask": self.mask_weight * sum_of([losses.mask for losses in per_layer]),
            "dice": self.dice_weight * sum_of([losses.dice for losses in per_layer]),
        }

    def predict(self, outputs: MaskOutputs, step: Step) -> MaskPrediction:
        """Class logits (B, Q, K + 1) and mask logits (B, Q, h, w) that count at test time: the last layer's."""
        return outputs.predictions[-1]

    def probabilities(self, logits: Tensor) -> Tensor:
        """Class probabilities (Q, K + 1), "no object" last."""
        return logits.softmax(dim=-1)

    def candidates(self, logits: Tensor, masks: Masks) -> Candidates:
        """Queries of one image that may claim pixels; arguments as in :meth:`panoptic`."""
        return sure_queries(self.probabilities(logits), masks, self.object_threshold)

    def semantic(
        self, logits: Tensor, masks: Masks, size: tuple[int, int] | None = None, known: int | None = None
    ) -> Tensor:
        """Label map of one image.

        Args:
            logits: (Q, K + 1).
            masks: (Q, H, W) mask probabilities.
            size: (height, width) of the answer, to which votes or regions are resized. None keeps that of the masks.
            known: classes learnt so far; None: all that there are logits for. A network may have columns for classes to come.

        Returns:
            (H, W) int64, k + 1 for the class at position k of the learning order; 0, "nothing", which is never voted for.
        """
        size = (masks.shape[-2], masks.shape[-1]) if size is None else size
        if self.semantic_reading == "regions":
            labels = assemble_semantic(self.candidates(logits, masks), self.overlap_threshold)
            return resize_labels(labels, logits.shape[-1] - 1, size)
        votes = semantic_votes(self.probabilities(logits)[:, :-1], masks[:])
        if votes.shape[-2:] != size:
            votes = F.interpolate(votes[None], size=size, mode="bilinear", align_corners=False)[0]
        return votes.argmax(dim=0) + 1

    def panoptic(self, logits: Tensor, masks: Masks, things: Tensor) -> tuple[Tensor, list[Segment]]:
        """Segment ids (H, W) and the segments of one image.

        Args:
            logits: (Q, K + 1).
            masks: (Q, H, W) mask probabilities.
            things: (K,) bool, True for classes whose instances are separate segments.
        """
        return assemble_panoptic(self.candidates(logits, masks), things, self.overlap_threshold)

    def instances(self, logits: Tensor, masks: Masks, things: Tensor | None = None) -> Instances:
        """Instances of one image, only of the classes in ``things`` if given; arguments as in :meth:`panoptic`."""
        return best_instances(self.probabilities(logits)[:, :-1], masks, self.max_detections, things)


def parameter_groups(network: nn.Module) -> tuple[ParameterGroup, ...]:
    """Every parameter once: (backbone or not) × (with or without weight decay).

    Source: Mask2Former's released training code. Biases are decayed; normalisations and embeddings are not.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, module in network.named_modules():
        in_backbone = "backbone" in name.split(".")
        decayed = not isinstance(module, UNDECAYED)
        for parameter in module.parameters(recurse=False):
            groups.setdefault((in_backbone, decayed), []).append(parameter)
    return tuple(
        ParameterGroup(tuple(parameters), weight_decay=None if decayed else 0.0, backbone=in_backbone)
        for (in_backbone, decayed), parameters in sorted(groups.items(), key=lambda item: item[0])
    )


def strange_images(ground_truth: Sequence[MaskTargets], step: Step) -> Tensor:
    """(B,) bool: images with at least one label that does not belong to the step."""
    past, seen = len(step.past), len(step.seen)
    return torch.stack([((target.labels < past) | (target.labels >= seen)).any() for target in ground_truth])


def sum_of(terms: Sequence[Tensor]) -> Tensor:
    """Sum of scalars."""
    return torch.stack(list(terms)).sum()
