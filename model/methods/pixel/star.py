"""STAR: prototypes in the place of exemplars.

Chen, Cong, Luo, Ip & Wang, "Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution in
Class-Incremental Semantic Segmentation", NeurIPS 2023.

Each class has a binary classifier; there is no background channel. New classifiers are shown what they would have seen had all
data still been there: features drawn from the statistics of old classes, and the current background repeated in place of the
old one.
Where the old network sees an old class, features stay as they were; new classes keep away from the most similar old one:

    L = Σ_new (ℓ_image + w_r ℓ_replay + w_b ℓ_background) / (1 + w_r + w_b) + λ_m · OCFM + λ_s · SAD

    ℓ_image        BCE of all pixels' logits with the labels, positives weighted with positive_weight, mean over all pixels
    ℓ_replay       BCE of the logits of drawn features, all negatives; w_r = number of features / (B·h·w)
    ℓ_background   BCE of the logits at grid positions that label and old network call background, all negatives;
                   w_b = ρ · number of positions / (B·h·w)
    ρ, numbers     see :mod:`model.methods.pixel.star_replay_plan`: what is missing of the distribution of all steps' data
    OCFM           mean squared difference to the old features where the label hides something and the old network sees an
                   old class (:func:`model.losses.feature_constraints.old_class_consistency`)
    SAD            see :func:`model.losses.feature_constraints.similarity_aware_discrimination`
    λ_m, λ_s       consistency_weight 5, discrimination_weight 0.05

After every step two passes over its images measure its classes: 2C + 3 numbers each, 2 060 bytes at C = 256. From step 1 on
all normalisation layers and dropout are frozen, and new classifiers learn 100 times as fast as the backbone, the rest of the
head 10 times. Released defects that the published numbers contain, each with a switch:

    ``released_threshold``   in training, the old network's *logit* has to exceed 0.5, at test its sigmoid (logit 0)
    ``released_norms``       the random norm of a drawn feature is drawn separately for each channel
    ``released_deviations``  from step 1 on, deviations of the j-th new class are measured from the j-th *old* prototype

The file is longer than most because the method has all four phases: it measures classes after a step, plans what to replay before
the next, replays inside the losses and decides without a background channel.

Verified against: g_star (statistics, counts, plan, whole increments with gradients, both feature losses).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.data.prepared.labels import IGNORE
from model.losses.feature_constraints import old_class_consistency, similarity_aware_discrimination
from model.losses.foreground import decide_foreground, foreground_cross_entropy, negatives
from model.methods.base import Context, ParameterGroup, State, StepContext, Trainable, Weight
from model.methods.pixel.base import PixelMethod
from model.methods.pixel.star_features import ClassStatistics, draw_features, grid_labels, measure_classes
from model.methods.pixel.star_replay_plan import ReplayPlan, replay_plan
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.layers import dropouts, normalisations
from model.scenario import Step


@dataclass(frozen=True)
class StarTargets:
    """Labels (B, H, W) without those of past classes, and what the old network sees (B, H, W), 0 = background."""

    labels: Tensor
    old_view: Tensor | None


@dataclass(frozen=True)
class STAR(PixelMethod):
    """The fields are the hyper-parameters, with the released defaults for PASCAL VOC."""

    positive_weight: Weight = 4.0
    consistency_weight: Weight = 5.0
    discrimination_weight: Weight = 0.05
    head_factor: Weight = 10.0
    new_classifier_factor: Weight = 100.0
    released_threshold: bool = True
    released_norms: bool = True
    released_deviations: bool = True

    base_method: ClassVar[str | None] = None
    base_fields = ("positive_weight", "head_factor")
    needs_old_model = True
    freezes_batch_norm = True
    consistency_offset: ClassVar[float] = 0.0
    """Added to the denominator of the consistency term."""
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "name": ("deeplabv3",),
        "background": (False,),
        "auxiliary": (False,),
    }
    unsupported: ClassVar[Mapping[tuple[str, str], str]] = {
        (
            "sequential",
            "semantic",
        ): "labels of past classes are hidden from the losses and the background is reconstructed",
        ("partition", "semantic"): "what it reconstructs is defined for the overlapped and the disjoint setting",
    }

    def trainable(self, network: Any, step: Step) -> Trainable:
        frozen = (*normalisations(network), *dropouts(network)) if step.index else ()
        fixed = {id(parameter) for module in frozen for parameter in module.parameters()}

        def group(module: nn.Module, factor: float) -> ParameterGroup:
            return ParameterGroup(tuple(p for p in module.parameters() if id(p) not in fixed), factor)

        *old, new = network.cls
        return Trainable(
            (
                group(network.backbone, 1.0),
                group(network.aspp, self.head_factor),
                *(group(classifier, self.head_factor) for classifier in old),
                group(new, self.new_classifier_factor if step.index else self.head_factor),
            ),
            frozen,
        )

    @torch.no_grad()
    def before_step(self, context: StepContext[PixelBatch]) -> State:
        step, batches, features = context.step, 0, None
        new = torch.zeros(1 + len(step.current), dtype=torch.double)
        seen = torch.zeros(1 + len(step.past), dtype=torch.double)
        for batch in context.batches():
            batches += 1
            if context.old_model is not None:
                outputs = context.old_model(batch.images)
                features = outputs.pre_logits
            elif features is None:  # only the size of the grid matters, and it is the same for all batches
                features = context.network(batch.images).pre_logits
            labels = grid_labels(visible_labels(batch.labels, step), features)
            places = torch.where(labels > 0, labels - len(step.past), labels)
            new += torch.bincount(places[labels != IGNORE], minlength=len(new)).to(new)
            if context.old_model is not None:
                old_view = grid_labels(self.old_view(outputs), features)
                seen += torch.bincount(old_view[labels == 0], minlength=len(seen)).to(seen)
        if context.old_model is None:
            return {"numbers": new}
        plan = self.plan(context.state["numbers"].cpu(), seen, new, batches, context.setting)
        return {
            **context.state,
            "numbers": torch.cat([plan.numbers, new[1:]]),
            "replayed": list(plan.counts),
            "background_ratio": plan.background_ratio,
        }

    def plan(self, numbers: Tensor, seen: Tensor, new: Tensor, batches: int, setting: str) -> ReplayPlan:
        """What is to be replayed, see :func:`model.methods.pixel.star_replay_plan.replay_plan`."""
        return replay_plan(numbers, seen, new, batches, setting)

    @property
    def threshold(self) -> float:
        """What a logit has to exceed in training for its class to be seen."""
        return 0.5 if self.released_threshold else 0.0

    def old_view(self, old_outputs: PixelOutputs) -> Tensor:
        """(B, H, W): what the old network sees, by the rule that training uses."""
        return decide_foreground(old_outputs.logits, self.threshold)

    def statistics_in_use(self, state: State) -> ClassStatistics:
        """The statistics that features of old classes are drawn from and that new classes are kept away from."""
        return stored_statistics(state)

    def targets(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> StarTargets:
        old_view = None if old_outputs is None else self.old_view(old_outputs)
        return StarTargets(visible_labels(batch.labels, context.step), old_view)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: StarTargets,
    ) -> dict[str, Tensor]:
        labels = targets.labels
        if old_outputs is None:
            return {"classification": foreground_cross_entropy(outputs.logits, labels, 1, self.positive_weight)}
        past, total = old_outputs.logits.shape[1], outputs.logits.shape[1]
        features, old = outputs.pre_logits, self.statistics_in_use(context.state)
        assert targets.old_view is not None
        hidden_old = (labels == 0) & (targets.old_view > 0)
        consistency = old_class_consistency(features, old_outputs.pre_logits, hidden_old, self.consistency_offset)
        discrimination = similarity_aware_discrimination(features, labels, range(past + 1, total + 1), old.prototypes)
        return {
            "classification": self.reconstructed(context.network.cls[-1], outputs, targets, past, old, context.state),
            "consistency": self.consistency_weight * consistency,
            "discrimination": self.discrimination_weight * discrimination,
        }

    def reconstructed(
        self,
        classifier: nn.Module,
        outputs: PixelOutputs,
        targets: StarTargets,
        past: int,
        old: ClassStatistics,
        state: State,
    ) -> Tensor:
        """Classification loss of the new classes over images, drawn features and repeated background."""
        features, labels, old_view = outputs.pre_logits, targets.labels, targets.old_view
        assert old_view is not None
        image = foreground_cross_entropy(outputs.logits[:, past:], labels, past + 1, self.positive_weight)
        drawn = draw_features(old, state["replayed"], self.draw(features), self.released_norms)
        background = (grid_labels(labels, features) == 0) & (grid_labels(old_view, features) == 0)
        repeated = features.permute(1, 0, 2, 3)[:, background][None, :, :, None]  # 1, C, n, 1
        positions = background.numel()
        replay_share = drawn.shape[2] / positions
        background_share = state["background_ratio"] * repeated.shape[2] / positions
        total = image
        for samples, share in ((drawn, replay_share), (repeated, background_share)):
            if samples.shape[2]:  # a convolution refuses an image without a pixel
                total = total + share * negatives(classifier(samples))
        return total / (1 + replay_share + background_share)

    def draw(self, features: Tensor) -> Callable[[Sequence[int]], Tensor]:
        """Where random features come from."""
        return lambda shape: torch.randn(tuple(shape), device=features.device)

    @torch.no_grad()
    def after_step(self, context: StepContext[PixelBatch]) -> State:
        step, state = context.step, context.state
        old = self.statistics_in_use(state) if step.index else None

        def features() -> Iterator[tuple[Tensor, Tensor]]:
            for batch in context.batches():
                yield context.network(batch.images).pre_logits, batch.labels

        def confused(new: Tensor) -> Tensor:
            assert old is not None
            return torch.cat([old.prototypes.to(new), new])[: len(new)]

        reference = confused if old is not None and self.released_deviations else None
        positions = range(len(step.past) + 1, len(step.seen) + 1)
        measured = measure_classes(features, positions, reference)
        kept = measured if old is None else old.followed_by(measured)
        return {
            "prototypes": kept.prototypes,
            "deviations": kept.deviations,
            "norms": kept.norms,
            "numbers": state["numbers"].float(),
        }

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        """Label map (B, H, W): the class with the largest sigmoid if that exceeds 0.5, else background."""
        return decide_foreground(outputs.logits)


@dataclass(frozen=True)
class StarM(STAR):
    """STAR with exemplars in addition to prototypes (50 images in the paper, class-balanced); past labels in them are hidden."""

    base_method = "star"
    memory_policy = "annotations"


def visible_labels(labels: Tensor, step: Step) -> Tensor:
    """Labels of past classes, which exemplars carry, are background to STAR."""
    return torch.where((labels > 0) & (labels <= len(step.past)), 0, labels)


def stored_statistics(state: State) -> ClassStatistics:
    """What earlier steps left."""
    return ClassStatistics(state["prototypes"], state["deviations"], state["norms"])
