"""Adapter: adaptive prototype replay.

Zhu et al., "Adaptive Prototype Replay for Class Incremental Semantic Segmentation", AAAI 2025.

STAR (:mod:`model.methods.pixel.star`) with three additions. Stored prototypes follow the features, which drift in training:
pixels that both networks are certain to show an old class tell how far. Pixels that no class wins clearly are pushed to a
decision, and new classes keep away from the prototypes where these have moved to:

    L = STAR's classification + λ_m · OCFM + λ_s · CPD + λ_u · UAC

    OCFM       as in STAR, with 1e-4 added to the denominator
    CPD        STAR's discrimination term, with the prototypes in use
    UAC        mean over all pixels of w (1 − u)², u the best sigmoid minus the second best of all classes, w = 0 where the best
               class is the labelled one or has more than 0.7, else 1; gradient flows through the second best alone
    λ_m, λ_s   consistency_weight 5, discrimination_weight 0.05
    λ_u        uncertainty_weight 0.1

    p ← p + ρ (ν − o)   every adaptation_period epochs and after the last one, from the prototypes that the step started with:
                        o and ν are mean directions of old and new features at pixels without a label in which both networks
                        see the class with a margin of 0.7, ρ is the share of the class's pixels that these are; deviations
                        grow by the distance moved

UAC alone reaches old classifiers. Two switches:

    ``adaptation``    the call is commented out in the released code; which of the two the published numbers come from is
                      unknown. True is the method of the paper, false the released program
    ``replay_rule``   how many features are replayed, and how often the background: ``adapter`` as released for PASCAL VOC,
                      ``star`` as released for ADE20K

Verified against: g_adapter (the three terms; counts, plan, whole increments with gradients, adaptation, stored statistics).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.foreground import decide_foreground
from model.losses.uncertainty import SURE, certainty, uncertainty_constraint
from model.methods.base import Context, State, StepContext, Weight
from model.methods.pixel.adapter_prototypes import Drift, adapted_statistics, adapter_replay_plan
from model.methods.pixel.star import STAR, StarTargets, stored_statistics
from model.methods.pixel.star_features import ClassStatistics, grid_labels
from model.methods.pixel.star_replay_plan import ReplayPlan
from model.networks.deeplabv3.outputs import PixelOutputs

ADAPTED = ("adapted_prototypes", "adapted_deviations")
"""Entries of the state that replace the stored ones once prototypes have moved."""


@dataclass(frozen=True)
class Adapter(STAR):
    """STAR's hyper-parameters, and those of the additions; the defaults are those of PASCAL VOC."""

    uncertainty_weight: Weight = 0.1
    adaptation: bool = True
    adaptation_period: Annotated[int, Field(ge=1)] = 10
    replay_rule: Literal["adapter", "star"] = "adapter"

    base_method: ClassVar[str | None] = "star"
    consistency_offset: ClassVar[float] = 1e-4

    def plan(self, numbers: Tensor, seen: Tensor, new: Tensor, batches: int, setting: str) -> ReplayPlan:
        if self.replay_rule == "star":
            return super().plan(numbers, seen, new, batches, setting)
        return adapter_replay_plan(numbers, seen, new, batches, setting)

    @torch.no_grad()
    def before_step(self, context: StepContext[PixelBatch]) -> State:
        state = super().before_step(context)
        if context.step.index:
            state.setdefault("current_numbers", context.state["numbers"])
        return state

    def statistics_in_use(self, state: State) -> ClassStatistics:
        stored = stored_statistics(state)
        if ADAPTED[0] not in state:
            return stored
        return ClassStatistics(state[ADAPTED[0]], state[ADAPTED[1]], stored.norms)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: StarTargets,
    ) -> dict[str, Tensor]:
        terms = super().losses(context, batch, outputs, old_outputs, targets)
        if old_outputs is None:
            return terms
        return {
            **terms,
            "uncertainty": self.uncertainty_weight * uncertainty_constraint(outputs.logits, targets.labels),
        }

    def after_update(self, context: StepContext[PixelBatch]) -> None:
        due = context.ends_epoch and (context.epoch + 1) % self.adaptation_period == 0
        if self.adaptation and context.step.index and due and context.iteration + 1 < context.iterations:
            with evaluation_mode(context.network):
                self.adapt(context)

    @torch.no_grad()
    def adapt(self, context: StepContext[PixelBatch]) -> None:
        """Measure how features have drifted since the step started, in a pass over its images, and move the prototypes."""
        stored, state = stored_statistics(context.state), context.state
        drift = Drift.none(stored.prototypes)
        for batch in context.batches():
            outputs, old_outputs = context.network(batch.images), context.old_model(batch.images)
            labels = self.targets(context, batch, None).labels
            seen = self.certain_classes(outputs, old_outputs, labels, len(context.step.past))
            drift.observe(old_outputs.pre_logits, outputs.pre_logits, seen)
        drift = Drift(*(context.reduce(part, "sum") for part in (drift.before, drift.now, drift.counts)))
        numbers = extended(state["current_numbers"], state["numbers"])[1 : 1 + len(stored.prototypes)]
        moved = adapted_statistics(stored, drift, numbers)
        state |= dict(zip(ADAPTED, (moved.prototypes, moved.deviations), strict=True))

    def certain_classes(self, outputs: PixelOutputs, old_outputs: PixelOutputs, labels: Tensor, past: int) -> Tensor:
        """(B, h, w) on the grid of features: the old class that both networks are certain to see, 0 where there is none."""
        seen, sure = [], grid_labels(labels, outputs.pre_logits) == 0
        for found in (outputs, old_outputs):
            logits = torch.stack([grid_labels(channel, found.pre_logits) for channel in found.logits.unbind(1)], dim=1)
            seen.append(decide_foreground(logits, self.threshold))
            sure &= certainty(logits.sigmoid()) > SURE
        ours, theirs = seen
        return torch.where(sure & (ours == theirs) & (ours <= past), ours, 0)

    @torch.no_grad()
    def after_step(self, context: StepContext[PixelBatch]) -> State:
        state, numbers = context.state, context.state["numbers"]
        if not context.step.index:
            return {**super().after_step(context), "numbers": numbers, "current_numbers": numbers}
        if self.adaptation:
            self.adapt(context)
        counted = extended(state["current_numbers"], numbers) if self.adaptation else state["current_numbers"]
        return {**super().after_step(context), "numbers": numbers, "current_numbers": counted}


def extended(counted: Tensor, numbers: Tensor) -> Tensor:
    """The second table of counts with the entries that it lacks, which are those of classes learnt since."""
    return torch.cat([counted.to(numbers), numbers[len(counted) :]])


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """A network in evaluation mode, each of its modules being put back into the mode that it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
