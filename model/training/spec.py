"""The description of one training job, as the workflow hands it over in canonical JSON.

Everything that the result depends on is here, already resolved for this step; nothing else is.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from model.scenario import Step


class SpecError(ValueError):
    """A job description that cannot be understood; the message is one line per problem, naming the key."""


class _Typed(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StepSpec(_Typed):
    """Which classes were learnt before and are learnt now, category ids in learning order.

    ``future`` tells the base step of some methods how many classes each later step brings.
    """

    index: Annotated[int, Field(ge=0)]
    past: tuple[int, ...]
    current: Annotated[tuple[int, ...], Field(min_length=1)]
    future: tuple[Annotated[int, Field(ge=1)], ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> StepSpec:
        if (self.index == 0) != (not self.past):
            raise ValueError("exactly the base step (index 0) has no past classes")
        if self.index and self.future:
            raise ValueError(
                "only the base step (index 0) has 'future' classes; later steps get them from its checkpoint"
            )
        if len({*self.past, *self.current}) != len(self.past) + len(self.current):
            raise ValueError("a class is listed twice")
        return self

    @property
    def step(self) -> Step:
        """The same as the scenario's own type."""
        return Step(self.index, self.past, self.current, self.future)


class MethodSpec(_Typed):
    """A method and the hyper-parameters that training depends on."""

    name: str
    hyper_parameters: dict[str, Any] = {}


class OptimiserSpec(_Typed):
    """Arguments of :func:`model.training.optimiser.build_optimiser`."""

    name: Literal["sgd", "adamw"]
    learning_rate: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    backbone_factor: Annotated[float, Field(ge=0)] = 1.0


class _Schedule(_Typed):
    """What all schedules have: ``minimum_rate`` is of :func:`model.training.optimiser.build_optimiser`."""

    minimum_rate: Annotated[float, Field(ge=0)] = 0.0

    @property
    def arguments(self) -> dict[str, Any]:
        """What :func:`model.training.schedule.build_schedule` takes besides the name."""
        return self.model_dump(exclude={"name", "minimum_rate"})


class PolySpec(_Schedule):
    """Arguments of :class:`model.training.schedule.Poly`."""

    name: Literal["poly"] = "poly"
    power: Annotated[float, Field(ge=0)] = 0.9
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.0
    warmup_factor: Annotated[float, Field(ge=0, le=1)] = 1e-3


class MultiStepSpec(_Schedule):
    """Arguments of :class:`model.training.schedule.MultiStep`."""

    name: Literal["multi-step"]
    milestones: tuple[Annotated[float, Field(ge=0, le=1)], ...] = (0.888889, 0.962963)
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.1


class ConstantSpec(_Schedule):
    """The schedule without arguments."""

    name: Literal["constant"]


ScheduleSpec = Annotated[PolySpec | MultiStepSpec | ConstantSpec, Field(discriminator="name")]


class KeepBestSpec(_Typed):
    """Which network of a step is kept: the best of those evaluated while it trains, instead of the last.

    It chooses on the images that are evaluated afterwards: figures made with it are not comparable to others. ``fraction`` of the
    iterations, but at least ``at_least``, lie between two evaluations.
    """

    protocol: str
    group: Literal["new", "all"] = "new"
    fraction: Annotated[float, Field(gt=0, le=1)] = 0.01
    at_least: Annotated[int, Field(ge=1)] = 100

    def every(self, iterations: int) -> int:
        """Iterations between two evaluations of a step of so many."""
        return max(self.at_least, int(self.fraction * iterations))


def check_family(
    family: str,
    optimiser: OptimiserSpec,
    void_in_training: str = "ignore",
    leak_next_class: bool = False,
    keep_best: KeepBestSpec | None = None,
) -> None:
    """Refuse settings that the other family of networks has.

    Raises:
        ValueError: naming the key.
    """
    if family == "per-pixel":
        if optimiser.backbone_factor != 1.0:
            raise ValueError("optimiser.backbone_factor is for mask networks; per-pixel networks train at one rate")
        if leak_next_class:
            raise ValueError("leak_next_class is a quirk of mask networks' semantic labels; remove the key")
        return
    if void_in_training != "ignore":
        raise ValueError("void_in_training is for per-pixel networks; mask networks never learn from void")
    if keep_best is not None:
        raise ValueError("keep_best is for per-pixel networks; the released code of mask networks keeps the last")


class RecipeSpec(_Typed):
    """Network variant, augmentation and optimisation of this step.

    ``batch_size`` counts the images that one optimiser step follows; ``accumulate`` divides them into so many passes.
    ``leak_next_class`` leaves the labels of one class of the next step visible, as the released semantic figures of
    BalConpas have it (see :mod:`model.training.mask_batches`). ``timm`` is the version of timm that builds the backbone, where it
    does. ``tf32`` (CUDA alone) allows matrix products and convolutions in TensorFloat-32, ``compiled`` runs backbone and pixel
    decoder through ``torch.compile``; both change numbers. ``added_arguments`` names those of the network that the base step does
    not have: what later steps add does not change it.
    """

    family: Literal["per-pixel", "mask"]
    network: dict[str, Any]
    added_arguments: tuple[str, ...] = ()
    timm: str | None = None
    transform: dict[str, Any]
    optimiser: OptimiserSpec
    schedule: ScheduleSpec = PolySpec()
    iterations: Annotated[int, Field(ge=1)] | None = None
    epochs: Annotated[int, Field(ge=1)] | None = None
    batch_size: Annotated[int, Field(ge=1)]
    accumulate: Annotated[int, Field(ge=1)] = 1
    clip_norm: Annotated[float, Field(gt=0)] | None = None
    precision: Literal["fp32", "fp16", "bf16"] = "fp32"
    void_in_training: Literal["ignore", "background"] = "ignore"
    leak_next_class: bool = False
    threads: Annotated[int, Field(ge=1)] | None = None
    tf32: bool = False
    compiled: bool = False
    keep_best: KeepBestSpec | None = None

    @model_validator(mode="after")
    def _consistent(self) -> RecipeSpec:
        check_family(self.family, self.optimiser, self.void_in_training, self.leak_next_class, self.keep_best)
        if (self.iterations is None) == (self.epochs is None):
            raise ValueError("give exactly one of 'iterations' and 'epochs'")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        for key, value in (("network", self.network), ("transform", self.transform)):
            if not isinstance(value.get("name"), str):
                raise ValueError(f"'{key}' needs a 'name'")
        return self


class TrainingSpec(_Typed):
    """One training job.

    ``selection`` says how its images were chosen besides the setting: which list, which annotation.
    """

    dataset: str
    task: Literal["panoptic", "semantic", "instance"]
    setting: Literal["overlapped", "disjoint", "sequential", "partition"]
    selection: str = ""
    seed: Annotated[int, Field(ge=0)]
    step: StepSpec
    method: MethodSpec
    recipe: RecipeSpec

    @model_validator(mode="after")
    def _consistent(self) -> TrainingSpec:
        if self.recipe.leak_next_class and self.task != "semantic":
            raise ValueError(f"leak_next_class is a quirk of semantic labels, but the task is {self.task}")
        return self


def parse_spec(text: str) -> TrainingSpec:
    """Read a job description from JSON.

    Raises:
        SpecError: if it is not JSON, lacks a key, has an unknown one, or a value is out of range.
    """
    try:
        return TrainingSpec.model_validate_json(text)
    except ValidationError as error:
        problems = [
            f"spec: {'.'.join(map(str, problem['loc'])) or 'the whole'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        ]
        raise SpecError("\n".join(problems)) from None
