"""SimCIS: queries that are cells of the image, held in place and remembered.

SooLab, "Rethinking Query-based Transformer for Continual Image Segmentation" (SimCIS), CVPR 2025.

The network has no learned queries: its queries are the cells of its own feature maps in which a class scores highest. So the new
network can be asked about the very cells that the old one chose, and has to see the same classes there. A query of an old class
is a vector that can be remembered: some of them pass the decoder beside the queries of each image, rare classes more often, and
have to be recognised. What the old model sees outside the labels becomes additional targets. No image is replayed.

    L = Σ_stages (λ_class · Focal + λ_mask · BCE + λ_dice · Dice + λ_box · |b − b*| + λ_overlap · (1 − GIoU))
        + λ_selection · KL(p°, p) + λ_decoder · KL_decoder

    stages      the chosen cells, then behind each decoder layer, each with its own matching
    Focal       sigmoid focal loss of all queries and virtual queries and all columns, divided by the number of targets
    BCE, Dice   masks of matched queries, at sampled points
    b, b*       reference boxes of matched queries and tight boxes of their targets
    KL          summed over the cells that the old model chose and averaged over images; p°, p softmaxes over the classes of the
                old and the new network there
    KL_decoder  the same behind the last layer, of queries that start from these cells; off in most published scenarios

Targets are pseudo targets, then ground truth; an image with a label that is none of the step's gets no pseudo targets. Scores of
old queries are sharpened before they compete for pixels; in semantic segmentation they are not, and the masks of a class are
united (``unite_pseudo_targets``).

What is carried: a bank of ``bank_size`` vectors of each class (:mod:`model.methods.mask.query_bank`), filled in every iteration
of every step with the chosen cells whose queries match a target behind the last layer. How often a class is drawn follows from
the number of its pseudo targets in the data of the step: one pass of the old model before training (``before_step``). It is not
a job of its own, because nothing else reads these numbers and it needs exactly what the training needs.

Named switches for what the release does, probably not on purpose:

    ``released_label_test``          pseudo targets: of the classes not learnt yet, only the very next one is refused
    ``released_storage``             virtual queries take part in the matching that fills the bank
    ``released_distillation_boxes``  KL_decoder starts from the boxes of the cells that the new network chose itself

and ``unseen_columns`` of the network. The bank is in half precision (single in the release).

Verified against: i_simcis (choice of cells, decoder, all losses, gradients, weights of classes, pseudo targets, readings).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.box_criterion import BoxCriterion, BoxedLosses, BoxedTargets
from model.losses.mask_pseudo_targets import certain_predictions, pseudo_targets, sharpened, united
from model.losses.selection_distillation import selection_distillation
from model.methods.base import Context, MethodError, RecipeLike, State, StepContext, Weight, prediction_field
from model.methods.mask.base import MaskMethod, strange_images, sum_of
from model.methods.mask.query_bank import (
    class_weights,
    draw_virtual,
    empty_bank,
    grown_bank,
    store,
    trimmed_bank,
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
)
from model.networks.mask2former.outputs import MaskOutputs, MaskPrediction
from model.networks.mask2former.selecting_network import Comparison, SelectedOutputs, VirtualQueries
from model.scenario import Scenario, Step

BANK, COUNTS = "bank", "counts"
"""Entries of the state: remembered queries; number of pseudo targets of each old class in this step."""


@dataclass(frozen=True)
class SimCISTargets:
    """What the losses compare with.

    Attributes:
        images: targets of each image: pseudo targets, then ground truth; of strange images the ground truth alone.
        stored: the same with pseudo targets for all images, which fill the bank.
    """

    images: tuple[BoxedTargets, ...]
    stored: tuple[BoxedTargets, ...]


@dataclass(frozen=True)
class SimCIS(MaskMethod):
    """The fields are the hyper-parameters, with the released values of ADE20K panoptic 100-10."""

    class_weight: Weight = 4.0
    box_weight: Weight = 5.0
    overlap_weight: Weight = 2.0
    selection_weight: Weight = 2.0
    selection_temperature: Annotated[float, Field(gt=0)] = 1.0
    decoder_weight: Weight = 0.0
    decoder_temperature: Annotated[float, Field(gt=0)] = 1.0
    virtual_queries: Annotated[int, Field(ge=0)] = 1
    bank_size: Annotated[int, Field(ge=1)] = 80
    balance_exponent: Weight = 0.5
    pseudo_threshold: Weight = 0.35
    pseudo_overlap_threshold: Weight = 0.8
    unite_pseudo_targets: bool = False
    released_label_test: bool = True
    released_storage: bool = True
    released_distillation_boxes: bool = True
    object_threshold: float = prediction_field(0.3)
    overlap_threshold: float = prediction_field(0.8)
    semantic_threshold: float = prediction_field(0.4)

    no_object_weight: ClassVar[float] = 0.0  # type: ignore[misc]  # there is no "no object": no field
    semantic_reading: ClassVar[str] = "regions"  # type: ignore[misc]  # the only one

    tasks: ClassVar[tuple[str, ...]] = ("panoptic", "semantic")
    needs_old_model: ClassVar[bool] = True
    base_method: ClassVar[str | None] = None
    base_fields = ("class_weight", "mask_weight", "dice_weight", "box_weight", "overlap_weight", "bank_size")
    network_arguments: ClassVar[dict[str, tuple[Any, ...]]] = {"name": ("mask2former-simcis",)}

    def check(self, recipe: RecipeLike, scenario: Scenario, setting: str, task: str) -> None:
        super().check(recipe, scenario, setting, task)
        columns, classes = recipe.network.get("classes"), len(scenario.order)
        if not isinstance(columns, int) or columns < classes:
            raise MethodError(
                f"the recipe's network.classes is {columns}, but {classes} classes are learnt; "
                "the class head has a column for each from the start"
            )

    def before_step(self, context: StepContext[MaskBatch]) -> State:
        head = context.network.selecting.class_head
        if BANK in context.state:
            bank = grown_bank(context.state[BANK], head.out_features)
        else:
            bank = empty_bank(head.out_features, self.bank_size, head.in_features, context.device)
        if context.old_model is None or not self.virtual_queries:
            return {BANK: bank}
        counts = torch.zeros(len(context.step.past), dtype=torch.int64, device=context.device)
        for batch in context.batches():
            with torch.no_grad():
                found = self.old_model_targets(batch.labels, context.old_model(batch.images), len(context.step.past))
            labels = torch.cat([one.labels for one in found])
            counts += torch.bincount(labels, minlength=len(counts))[: len(counts)]
        return {BANK: bank, COUNTS: context.reduce(counts, "sum")}

    def forward(self, context: Context, batch: MaskBatch, old_outputs: MaskOutputs | None) -> SelectedOutputs:
        virtual = comparison = None
        if old_outputs is not None:
            assert isinstance(old_outputs, SelectedOutputs)
            comparison = Comparison(
                old_outputs.selection.positions, self.decoder_weight > 0, not self.released_distillation_boxes
            )
            if self.virtual_queries:
                weights = class_weights(context.state[COUNTS], self.balance_exponent)
                images, rows = (
                    (len(batch), slice(None)) if context.part is None else (context.part.whole, context.part.rows)
                )
                drawn = draw_virtual(context.state[BANK], weights, images, self.virtual_queries)
                virtual = None if drawn is None else VirtualQueries(*(values[rows] for values in drawn))
        outputs: SelectedOutputs = context.network(batch.images, virtual, comparison)
        return outputs

    def targets(self, context: Context, batch: MaskBatch, old_outputs: MaskOutputs | None) -> SimCISTargets:
        truth = tuple(BoxedTargets.of(one) for one in batch.labels)
        if old_outputs is None:
            return SimCISTargets(truth, truth)
        pseudo = self.old_model_targets(batch.labels, old_outputs, len(context.step.past))
        stored = tuple(BoxedTargets.of(found.followed_by(one)) for found, one in zip(pseudo, batch.labels, strict=True))
        strange = strange_images(batch.labels, context.step).tolist() if batch.leaked else [False] * len(batch)
        images = tuple(plain if odd else whole for plain, whole, odd in zip(truth, stored, strange, strict=True))
        return SimCISTargets(images, stored)

    def old_model_targets(
        self, ground_truth: Sequence[MaskTargets], old_outputs: MaskOutputs, known: int
    ) -> list[MaskTargets]:
        """What the old model, which knows so many classes, sees outside the ground truth of each image."""
        refused: Literal["next", "unknown"] = "next" if self.released_label_test else "unknown"
        old = certain_predictions(
            old_outputs.logits,
            old_outputs.masks,
            old_outputs.image_size,
            self.pseudo_threshold,
            known,
            refused,
            not self.unite_pseudo_targets,
        )
        found = pseudo_targets(old, [truth.masks for truth in ground_truth], self.pseudo_overlap_threshold)
        return united(found) if self.unite_pseudo_targets else found

    def losses(
        self,
        context: Context,
        batch: MaskBatch,
        outputs: MaskOutputs,
        old_outputs: MaskOutputs | None,
        targets: SimCISTargets,
    ) -> dict[str, Tensor]:
        assert isinstance(outputs, SelectedOutputs)
        criterion, draw = self.criterion(context.network.criterion), self.point_source(outputs)
        first, *auxiliary, final = outputs.predictions
        stages = criterion.compare(
            (final, *auxiliary, first), targets.images, outputs.virtual_labels, draw, batch.names
        )
        terms = self.weighted_boxed(stages)
        if old_outputs is not None:
            terms |= self.distillation(outputs, old_outputs)
        features, labels = self.matched_cells(criterion, outputs, targets.stored, draw)
        store(context.state[BANK], features, labels)
        return terms

    def criterion(self, criterion: BoxCriterion) -> BoxCriterion:
        """The network's criterion, which matches with the weights of the losses."""
        return replace(
            criterion,
            class_cost=self.class_weight,
            mask_cost=self.mask_weight,
            dice_cost=self.dice_weight,
            box_cost=self.box_weight,
            overlap_cost=self.overlap_weight,
        )

    def weighted_boxed(self, stages: Sequence[BoxedLosses]) -> dict[str, Tensor]:
        """Terms of the loss: each summed over all stages and weighted."""
        return {
            "classification": self.class_weight * sum_of([losses.classification for losses in stages]),
            "mask": self.mask_weight * sum_of([losses.mask for losses in stages]),
            "dice": self.dice_weight * sum_of([losses.dice for losses in stages]),
            "box": self.box_weight * sum_of([losses.box for losses in stages]),
            "overlap": self.overlap_weight * sum_of([losses.overlap for losses in stages]),
        }

    def distillation(self, outputs: SelectedOutputs, old_outputs: MaskOutputs) -> dict[str, Tensor]:
        """The weighted divergences from the old model, for the cells that it chose."""
        assert outputs.distilled is not None
        chosen, final = old_outputs.predictions[0].logits, old_outputs.predictions[-1].logits
        kept = selection_distillation(outputs.distilled.selected, chosen, self.selection_temperature)
        terms = {"selection_distillation": self.selection_weight * kept}
        if outputs.distilled.final is not None:
            decoded = selection_distillation(outputs.distilled.final, final, self.decoder_temperature)
            terms["decoder_distillation"] = self.decoder_weight * decoded
        return terms

    @torch.no_grad()
    def matched_cells(
        self, criterion: BoxCriterion, outputs: SelectedOutputs, targets: Sequence[BoxedTargets], draw: Any
    ) -> tuple[Tensor, Tensor]:
        """What the bank stores: (N, C) cells whose queries match a target behind the last layer, and (N,) its class."""
        final, vectors = outputs.predictions[-1], outputs.queries[0]
        count = vectors.shape[1] if self.released_storage else outputs.selection.features.shape[1]
        queries, labels = criterion.matched_pairs(final, targets, draw, count)
        return vectors[:, :count].flatten(0, 1).index_select(0, queries), labels

    def after_step(self, context: StepContext[MaskBatch]) -> State:
        return {BANK: trimmed_bank(context.state[BANK], len(context.step.seen))}

    def predict(self, outputs: MaskOutputs, step: Step) -> MaskPrediction:
        return outputs.predictions[-1]

    def probabilities(self, logits: Tensor) -> Tensor:
        return logits.sigmoid()

    def candidates(self, logits: Tensor, masks: Masks) -> Candidates:
        probabilities = logits.sigmoid()
        scores, labels = probabilities.max(dim=-1)
        kept = scores > self.object_threshold
        return Candidates(labels[kept], sharpened(probabilities[kept]), masks[kept])

    def semantic(
        self, logits: Tensor, masks: Masks, size: tuple[int, int] | None = None, known: int | None = None
    ) -> Tensor:
        """Label map of one image; pixels of classes that are not learnt yet are "nothing".

        The class after the last known one is refused from the start, and the excess of what a query wins over its mask is
        bounded like the opposite, both as released.
        """
        known = logits.shape[-1] if known is None else known
        probabilities = logits.sigmoid()
        scores, labels = probabilities.max(dim=-1)
        kept = (scores >= self.semantic_threshold) & (labels != known)
        painted = assemble_semantic(
            Candidates(labels[kept], sharpened(probabilities[kept]), masks[kept]),
            self.overlap_threshold,
            self.overlap_threshold,
        )
        painted = resize_labels(painted, logits.shape[-1], painted.shape if size is None else size)  # type: ignore[arg-type]
        return painted.masked_fill(painted > known, 0)

    def panoptic(self, logits: Tensor, masks: Masks, things: Tensor) -> tuple[Tensor, list[Segment]]:
        """As in the base; segments of classes that are not learnt yet win their pixels and are left out."""
        countable = F.pad(things, (0, max(0, logits.shape[-1] - len(things))))
        ids, segments = assemble_panoptic(self.candidates(logits, masks), countable, self.overlap_threshold)
        unknown = [segment.id for segment in segments if segment.category >= len(things)]
        ids[torch.isin(ids, torch.tensor(unknown, dtype=ids.dtype, device=ids.device))] = 0
        return ids, [segment for segment in segments if segment.category < len(things)]

    def instances(self, logits: Tensor, masks: Masks, things: Tensor | None = None) -> Instances:
        countable = None if things is None else F.pad(things, (0, max(0, logits.shape[-1] - len(things))))
        return best_instances(logits.sigmoid(), masks, self.max_detections, countable)


@dataclass(frozen=True)
class SimCISFinetuning(SimCIS):
    """Fine-tuning of SimCIS's network, from the same base step: no old model, no virtual query."""

    needs_old_model = False
    base_method = "simcis"


@dataclass(frozen=True)
class SimCISJoint(SimCIS):
    """Joint training of SimCIS's network."""

    all_at_once = True
    needs_old_model = False
    base_method = "simcis"
