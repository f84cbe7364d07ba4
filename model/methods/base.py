"""The hooks of a continual-segmentation method.

A method is a frozen dataclass whose fields are its hyper-parameters, plus a few hooks that the training loop calls in
this order (steps count from 0, the base step):

    grow            once a step, before the optimiser exists: build and initialise this step's outputs
    trainable       once a step: what trains, with which learning-rate factor, what stays in evaluation mode
    before_step     once a step: a pass over the data before training
    targets         every batch: the labels that the loss sees
    losses          every batch: named, weighted terms; the loop adds them up
    after_backward  every optimiser step: gradients are unscaled, reduced and accumulated, not yet clipped
    after_step      once a step: returns the state that the next step gets
    predict         at evaluation: network outputs to a label map

Every hook has a default, so that fine-tuning is an almost empty file. Hooks never see an optimiser, a scaler, a
data-loader worker or a file. The state of a method is one flat dictionary of tensors and plain values, stored inside the
checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from model.scenario import Step

State = dict[str, Any]

Weight = Annotated[float, Field(ge=0)]
"""Type of the hyper-parameters that weigh a loss term: never negative."""


def prediction_field(default: Any) -> Any:
    """A hyper-parameter that only :meth:`Method.predict` reads: changing it re-evaluates and never re-trains."""
    return field(default=default, metadata={"stage": "predict"})


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that share a learning-rate factor.

    Attributes:
        parameters: what to train.
        learning_rate_factor: multiplies the recipe's learning rate of this step.
        weight_decay: overrides the recipe's value; None keeps it.
        backbone: whether the recipe's factor for the backbone applies as well.
    """

    parameters: tuple[nn.Parameter, ...]
    learning_rate_factor: float = 1.0
    weight_decay: float | None = None
    backbone: bool = False


@dataclass(frozen=True)
class Trainable:
    """The answer to "what trains in this step".

    Attributes:
        groups: parameters handed to the optimiser; all others get ``requires_grad = False``.
        evaluation_modules: modules kept in evaluation mode (frozen normalisation statistics, no dropout).
    """

    groups: tuple[ParameterGroup, ...]
    evaluation_modules: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Context:
    """What the passes before and after a step may look at.

    Attributes:
        network: the network of this step.
        old_model: frozen network of the previous step, None at the base step or if the method does not ask for it.
        step: classes learnt before and now.
        batches: call it for one fresh, unaugmented-order pass over this step's training batches on ``device``.
        state: the method's state so far.
        device: where tensors live.
        setting: of the scenario: overlapped, disjoint, sequential or partition.
    """

    network: nn.Module
    old_model: nn.Module | None
    step: Step
    batches: Callable[[], Iterable[Any]]
    state: State
    device: torch.device
    setting: str = "overlapped"


class Method:
    """Base of all methods; the class attributes declare what the workflow has to provide."""

    family: ClassVar[Literal["per-pixel", "mask"]]
    """Which kind of network the method works on."""
    tasks: ClassVar[tuple[str, ...]]
    """Tasks the method is defined for, of panoptic, semantic, instance."""
    base_method: ClassVar[str | None] = "finetuning"
    """Whose base step this method continues from; None if its own step 0 differs from everybody else's."""
    base_fields: ClassVar[tuple[str, ...] | None] = None
    """Hyper-parameters that step 0 depends on, which the base method has as well; None: all of them if the base step is the
    method's own, none if it is another's."""
    all_at_once: ClassVar[bool] = False
    """True for the upper bound: every class of the scenario is learnt in one step, with all labels visible."""
    needs_old_model: ClassVar[bool] = False
    """True if ``losses`` or ``targets`` read the previous step's network."""
    memory_policy: ClassVar[Literal["none", "annotations"]] = "none"
    """Whether exemplars are replayed, and whether choosing them takes more than annotations."""
    replay_mixing: ClassVar[Literal["concatenate", "half-batch"]] = "concatenate"
    """How exemplars enter the batches."""
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Values that arguments of the recipe's network may have, ``name`` included; others are free."""
    unsupported: ClassVar[Mapping[tuple[str, str], str]] = {}
    """(setting, task) pairs that make no sense for the method, with the reason."""

    @property
    def needs_saliency(self) -> bool:
        """Whether batches bring saliency maps, which the dataset must then have."""
        return False

    def grow(self, network: Any, step: Step) -> None:
        """Add this step's outputs to a network that knows ``step.past``. Not called at the base step."""
        network.grow(len(step.current))

    def trainable(self, network: nn.Module, step: Step) -> Trainable:
        """Everything trains at the recipe's learning rate, unless a method says otherwise."""
        return Trainable((ParameterGroup(tuple(network.parameters())),))

    def before_step(self, context: Context) -> State:
        """A pass over the data before training; returns the state that the step starts with."""
        return context.state

    def targets(self, batch: Any, old_outputs: Any, step: Step, state: State) -> Any:
        """What the loss compares with; the batch's own labels by default."""
        return batch.labels

    def losses(
        self, network: nn.Module, batch: Any, outputs: Any, old_outputs: Any, targets: Any, state: State
    ) -> dict[str, Tensor]:
        """Named and weighted terms whose sum is minimised; ``old_outputs`` is None at the base step."""
        raise NotImplementedError(f"{type(self).__name__} defines no losses")

    def after_backward(self, network: nn.Module, state: State) -> None:
        """Penalties on parameters add to ``.grad`` here; statistics of gradients are gathered here."""

    def after_step(self, context: Context) -> State:
        """A pass after training; returns the state that the next step gets."""
        return context.state

    def predict(self, outputs: Any, step: Step) -> Any:
        """The decision rule at test time."""
        raise NotImplementedError(f"{type(self).__name__} defines no decision rule")

    @classmethod
    def hyper_parameters(cls, stage: Literal["train", "predict"]) -> tuple[str, ...]:
        """Names of the fields that a stage depends on."""
        names = fields(cls)  # type: ignore[arg-type]  # every concrete method is a dataclass
        return tuple(f.name for f in names if f.metadata.get("stage", "train") == stage)


@dataclass(frozen=True)
class PixelMethod(Method):
    """Base of the methods on per-pixel classifiers: channel 0 is the background, channel k the k-th class."""

    family = "per-pixel"
    tasks = ("semantic",)
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {"name": ("deeplabv3",), "background": (True,)}

    def predict(self, outputs: Any, step: Step) -> Tensor:
        """Label map (B, H, W) of positions: the channel with the largest logit."""
        return outputs.logits.argmax(dim=1)
