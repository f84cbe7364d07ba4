"""The hooks of a continual-segmentation method.

A method is a frozen dataclass whose fields are its hyper-parameters, plus a few hooks that the training loop calls in
this order (steps count from 0, the base step):

    check           while planning: what the method cannot work on
    grow            once per step, before the optimiser exists: build and initialise this step's outputs
    trainable       once per step: what trains, with which learning-rate factor, what stays in evaluation mode
    before_step     once per step: a pass over the data before training
    forward         every batch, or part of it: the network's outputs; the old model has run already
    targets         every batch: the labels that the loss sees
    losses          every batch: named, weighted terms; the loop adds them up
    after_backward  every optimiser step: gradients are unscaled, reduced and accumulated, not yet clipped
    after_update    every optimiser step, when the parameters have moved
    after_step      once per step: may change the network; returns the state that the next step gets
    predict         at evaluation: network outputs to a label map

Every hook has a default, so that fine-tuning is an almost empty file. Hooks never see an optimiser, a scaler, a
data-loader worker or a file. The state of a method is a dictionary of tensors and plain values, nested as deeply as it
likes; it is stored inside the checkpoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, ClassVar, Generic, Literal, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor, nn

from model.methods.errors import MethodError
from model.networks.registry import check_batch_norm, check_requirements
from model.scenario import Scenario, Step

State = dict[str, Any]

Weight = Annotated[float, Field(ge=0)]
"""Type of the hyper-parameters that weigh a loss term: never negative."""

Reduction = Literal["sum", "mean", "max", "min"]
Reduce = Callable[[Tensor, Reduction], Tensor]
"""Combines a tensor over all processes of a training; the identity with a single process."""


def prediction_field(default: Any) -> Any:
    """A hyper-parameter that only :meth:`Method.predict` reads: changing it re-evaluates and never re-trains."""
    return field(default=default, metadata={"stage": "predict"})


class BatchLike(Protocol):
    """What every batch has, in both families."""

    @property
    def images(self) -> Tensor:
        """(B, 3, H, W), normalised."""

    @property
    def labels(self) -> Any:
        """Dense labels, or sets of masks."""


class RecipeLike(Protocol):
    """What :meth:`Method.check` may ask about a recipe, resolved for an incremental step."""

    @property
    def family(self) -> str:
        """Of the network: per-pixel or mask."""

    @property
    def network(self) -> Mapping[str, Any]:
        """Name and arguments of the network."""

    @property
    def transform(self) -> Mapping[str, Any]:
        """Name and arguments of the augmentation."""

    @property
    def batch_size(self) -> int:
        """Images of one optimiser step."""


Batch = TypeVar("Batch", bound=BatchLike)
Outputs = TypeVar("Outputs")


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
        groups: parameters for the optimiser; all others get ``requires_grad = False``.
        evaluation_modules: modules kept in evaluation mode (frozen normalisation statistics, no dropout).
    """

    groups: tuple[ParameterGroup, ...]
    evaluation_modules: tuple[nn.Module, ...] = ()


@dataclass(frozen=True)
class Part:
    """Which images of a batch pass the network at present, where it passes in parts.

    Attributes:
        first: number of the first of them in the whole batch.
        images: how many.
        whole: images of the whole batch.
    """

    first: int
    images: int
    whole: int

    @property
    def rows(self) -> slice:
        """Their rows in what is drawn for the whole batch."""
        return slice(self.first, self.first + self.images)


@dataclass(frozen=True, kw_only=True)
class Context:
    """The current position of training, passed to every hook of a batch.

    A batch may be divided among processes, or into smaller forward passes. Then ``forward`` sees a part of it, perhaps twice, and
    must not change the state; all other hooks see the whole batch and its outputs in every process.

    Attributes:
        step: classes learnt before and now.
        setting: of the scenario: overlapped, disjoint, sequential or partition.
        iteration: number of the present optimiser step, from 0; ``iterations`` once training is over.
        iterations: optimiser steps of the complete step.
        iterations_per_epoch: optimiser steps that one pass over the data takes.
        network: in training, never wrapped.
        old_model: frozen network of the previous step, None at the base step or if the method does not ask for it.
        state: the method's state; hooks change it in place.
        device: where tensors live.
        reduce: ``reduce(tensor, "sum")`` combines what the processes of this training have seen each for itself. Hooks see whole
            batches whatever the number of processes, so there is nothing to add: it returns the tensor.
        part: what of the batch ``forward`` sees; None: all of it, and in every other hook. What it draws at random it draws for
            ``part.whole`` images, and takes ``part.rows``.
    """

    step: Step
    setting: str
    iteration: int
    iterations: int
    iterations_per_epoch: int
    network: Any
    old_model: Any
    state: State
    device: torch.device
    reduce: Reduce
    part: Part | None = None

    @property
    def epoch(self) -> int:
        """Number of the present pass over the data, from 0."""
        return self.iteration // self.iterations_per_epoch

    @property
    def ends_epoch(self) -> bool:
        """Whether the present iteration is the last of its epoch, or of the step."""
        done = self.iteration + 1
        return done % self.iterations_per_epoch == 0 or done == self.iterations


@dataclass(frozen=True, kw_only=True)
class StepContext(Context, Generic[Batch]):
    """What the hooks before and after a step get in addition.

    Attributes:
        batches: call it for one fresh pass over this step's training batches, on ``device``.
        learning_rate: the recipe's, of this step; for methods that train a part of their own before the step.
    """

    batches: Callable[[], Iterable[Batch]]
    learning_rate: float


class Method(Generic[Batch, Outputs]):
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
    """True if a hook reads the previous step's network or its outputs."""
    reads_old_parameters: ClassVar[bool] = False
    """True if a hook reads parameters of the old model; otherwise its normalisation is folded into its convolutions."""
    memory_policy: ClassVar[Literal["none", "annotations"]] = "none"
    """Whether exemplars are replayed, and whether choosing them takes more than annotations."""
    replay_mixing: ClassVar[Literal["concatenate", "half-batch"]] = "concatenate"
    """How exemplars enter the batches."""
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    """Values that arguments of the recipe's network may have, ``name`` included; others are free."""
    freezes_batch_norm: ClassVar[bool] = False
    """Whether the statistics of the backbone's batch normalisation stay as the base step left them; it must then have some."""
    unsupported: ClassVar[Mapping[tuple[str, str], str]] = {}
    """(setting, task) pairs that make no sense for the method, with the reason."""

    @property
    def needs_saliency(self) -> bool:
        """Whether batches bring saliency maps, which the dataset must then have."""
        return False

    @property
    def needs_future(self) -> bool:
        """Whether the base step has to know how many classes each later step brings; it is then shared by no other scenario."""
        return False

    def check(self, recipe: RecipeLike, scenario: Scenario, setting: str, task: str) -> None:
        """Refuse what the method cannot work on, before anything runs.

        Args:
            recipe: resolved for an incremental step.
            scenario: all steps; while a single job is checked, one step for all past classes and one for its own.
            setting: overlapped, disjoint, sequential or partition.
            task: panoptic, semantic or instance.

        Raises:
            MethodError: one line, to be read after the method's name.
        """
        if recipe.family != self.family:
            raise MethodError(f"the method works on {self.family} networks, but the recipe's is {recipe.family}")
        if task not in self.tasks:
            raise MethodError(f"the method is for {', '.join(self.tasks)} segmentation, not {task}")
        if (setting, task) in self.unsupported:
            raise MethodError(f"the method does not support the setting '{setting}': {self.unsupported[setting, task]}")
        try:
            check_requirements(recipe.network, self.network_arguments)
            if self.freezes_batch_norm:
                check_batch_norm(recipe.network)
        except ValueError as error:
            raise MethodError(f"the recipe does not suit the method: {error}") from None

    def grow(self, network: Any, step: Step) -> None:
        """Add this step's outputs to a network that knows ``step.past``. Not called at the base step."""
        network.grow(len(step.current))

    def trainable(self, network: Any, step: Step) -> Trainable:
        """Everything trains at the recipe's learning rate, unless a method says otherwise."""
        return Trainable((ParameterGroup(tuple(network.parameters())),))

    def before_step(self, context: StepContext[Batch]) -> State:
        """A pass over the data before training; returns the state that the step starts with."""
        return context.state

    def forward(self, context: Context, batch: Batch, old_outputs: Outputs | None) -> Outputs:
        """The network's outputs for a batch, or a part of it; ``old_outputs`` are the old model's, without gradient.

        Every tensor in the outputs has one row for each image.
        """
        outputs: Outputs = context.network(batch.images)
        return outputs

    def targets(self, context: Context, batch: Batch, old_outputs: Outputs | None) -> Any:
        """What the loss compares with; the batch's own labels by default."""
        return batch.labels

    def losses(
        self, context: Context, batch: Batch, outputs: Outputs, old_outputs: Outputs | None, targets: Any
    ) -> dict[str, Tensor]:
        """Named and weighted terms whose sum is minimised; ``old_outputs`` is None at the base step."""
        raise NotImplementedError(f"{type(self).__name__} defines no losses")

    def after_backward(self, context: Context) -> None:
        """Penalties on parameters add to ``.grad`` here; statistics of gradients are gathered here."""

    def after_update(self, context: StepContext[Batch]) -> None:
        """What follows the parameters: running prototypes, banks, averages. Not called where an fp16 update was skipped."""

    def after_step(self, context: StepContext[Batch]) -> State:
        """A pass after training, which may change the network; returns the state that the next step gets."""
        return context.state

    def predict(self, outputs: Outputs, step: Step) -> Any:
        """The decision rule at test time."""
        raise NotImplementedError(f"{type(self).__name__} defines no decision rule")

    @classmethod
    def hyper_parameters(cls, stage: Literal["train", "predict"]) -> tuple[str, ...]:
        """Names of the fields that a stage depends on."""
        names = fields(cls)  # type: ignore[arg-type]  # every concrete method is a dataclass
        return tuple(f.name for f in names if f.metadata.get("stage", "train") == stage)
