"""A method that uses every hook, for tests of what surrounds methods: resuming, saving, planning, costs.

It is of no use to anybody. Each hook leaves something behind that a later one, or the next step, reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.data.prepared.labels import IGNORE
from model.losses.classification import cross_entropy
from model.methods.base import (
    Context,
    MethodError,
    ParameterGroup,
    RecipeLike,
    State,
    StepContext,
    Trainable,
    Weight,
    prediction_field,
)
from model.methods.pixel.base import PixelMethod
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Scenario, Step


@dataclass(frozen=True)
class EveryHook(PixelMethod):
    """Labels of the old model, its logits mixed into the new ones, and weights averaged over epochs."""

    mixing: Weight = 0.1
    newest: Weight = 0.5
    shift: float = prediction_field(0.0)

    base_method = None
    needs_old_model = True

    def check(self, recipe: RecipeLike, scenario: Scenario, setting: str, task: str) -> None:
        super().check(recipe, scenario, setting, task)
        if setting == "sequential":
            raise MethodError("the method labels past classes itself, which 'sequential' has done already")

    def grow(self, network: Any, step: Step) -> None:
        super().grow(network, step)
        torch.nn.init.zeros_(network.cls[-1].bias)

    def trainable(self, network: Any, step: Step) -> Trainable:
        newest = tuple(network.cls[-1].parameters())
        known = {id(parameter) for parameter in newest}
        rest = tuple(parameter for parameter in network.parameters() if id(parameter) not in known)
        return Trainable((ParameterGroup(rest), ParameterGroup(newest, learning_rate_factor=2.0)))

    def before_step(self, context: StepContext[PixelBatch]) -> State:
        """Pixels of each class over all processes, beside those of the steps before."""
        counts = torch.zeros(1 + len(context.step.seen), dtype=torch.long, device=context.device)
        for batch in context.batches():
            visible = batch.labels[batch.labels != IGNORE]
            counts += torch.bincount(visible, minlength=len(counts))
        history = [*context.state.get("history", []), context.reduce(counts, "sum")]
        return {"history": history, "average": {}, "seen": {"updates": 0, "norm": torch.zeros(())}}

    def forward(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> PixelOutputs:
        outputs: PixelOutputs = context.network(batch.images)
        if old_outputs is None:
            return outputs
        known = old_outputs.logits.shape[1]
        mixed = outputs.logits[:, :known] + self.mixing * old_outputs.logits
        return replace(outputs, logits=torch.cat([mixed, outputs.logits[:, known:]], dim=1))

    def targets(self, context: Context, batch: PixelBatch, old_outputs: PixelOutputs | None) -> Tensor:
        if old_outputs is None:
            return batch.labels
        return torch.where(batch.labels == 0, old_outputs.logits.argmax(dim=1), batch.labels)

    def losses(
        self,
        context: Context,
        batch: PixelBatch,
        outputs: PixelOutputs,
        old_outputs: PixelOutputs | None,
        targets: Tensor,
    ) -> dict[str, Tensor]:
        return {"classification": cross_entropy(outputs.logits, targets)}

    def after_backward(self, context: Context) -> None:
        gradient = context.network.cls[-1].weight.grad
        context.state["seen"]["norm"] = context.state["seen"]["norm"] + context.reduce(gradient.norm(), "mean")

    def after_update(self, context: Context) -> None:
        context.state["seen"]["updates"] += 1
        if context.ends_epoch:
            average: dict[str, Tensor] = context.state["average"]
            for name, parameter in newest_parameters(context.network).items():
                before = average.get(name, parameter)
                average[name] = self.newest * parameter + (1 - self.newest) * before

    def after_step(self, context: StepContext[PixelBatch]) -> State:
        """The averaged classifier takes the place of the trained one."""
        with torch.no_grad():
            for name, parameter in context.network.cls[-1].named_parameters():
                parameter.copy_(context.state["average"][name])
        return context.state

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        logits = outputs.logits.clone()
        logits[:, 0] += self.shift
        return logits.argmax(dim=1)


def newest_parameters(network: Any) -> Mapping[str, Tensor]:
    """Values of the newest classifier, apart from the graph."""
    return {name: parameter.detach().clone() for name, parameter in network.cls[-1].named_parameters()}
