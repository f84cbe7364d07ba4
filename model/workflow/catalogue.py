"""What planning asks about methods, networks and augmentations; each question loads them once, later its answer is read.

Loading torch takes longer than all of planning. What a configuration may say about a method, and what the method says about it,
follows from source code and the configuration alone, so the answers are kept (``model/common/kept_answers.py``) under both.
Refusals are not kept: the question is asked again, for its message.
"""

from __future__ import annotations

import inspect
import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any, Literal

from model.common.fingerprints import KEPT, canonical_json, combined_fingerprint, job_code, module_file
from model.common.kept_answers import kept_answer
from model.methods import registry as methods
from model.networks import registry as networks
from model.scenario import Scenario
from model.training import loaders
from model.training.spec import RecipeSpec

DECISION_HOOKS = ("predict", "semantic", "panoptic", "instances")
"""Hooks that turn outputs into predictions; the last three are those of mask networks."""

_RULES = (
    "model.common.registry",
    "model.methods.registry",
    "model.networks.backbones.timm",
    "model.networks.registry",
    "model.training.loaders",
)
"""Modules that say what a name stands for and which values are accepted; jobs do not depend on them."""


@dataclass(frozen=True)
class MethodFacts:
    """A method with certain hyper-parameters, as planning sees it.

    Attributes:
        memory_policy, all_at_once, base_method, base_fields, needs_future: as of :class:`model.methods.base.Method`.
        decision: the functions behind :data:`DECISION_HOOKS`, by module and name; equal ones decide alike.
        train, predict: hyper-parameters that each stage depends on, all of them, as plain data.
    """

    memory_policy: str
    all_at_once: bool
    base_method: str | None
    base_fields: tuple[str, ...] | None
    needs_future: bool
    decision: tuple[str, ...]
    train: Mapping[str, Any]
    predict: Mapping[str, Any]

    def hyper_parameters(self, stage: Literal["train", "predict"]) -> dict[str, Any]:
        """Those that a stage depends on."""
        return dict(self.train if stage == "train" else self.predict)


def method_facts(name: str, values: Mapping[str, Any], family: methods.Family) -> MethodFacts:
    """What planning needs to know about a method.

    Raises:
        MethodError: for an unknown method or hyper-parameter, or a value of the wrong type or range.
    """

    def find() -> dict[str, Any]:
        method = methods.build(name, values, family)
        hooks = [getattr(type(method), hook, None) for hook in DECISION_HOOKS]
        stages = {s: {f: getattr(method, f) for f in method.hyper_parameters(s)} for s in ("train", "predict")}
        facts = MethodFacts(
            method.memory_policy,
            method.all_at_once,
            method.base_method,
            None if method.base_fields is None else tuple(method.base_fields),
            method.needs_future,
            tuple(f"{hook.__module__}.{hook.__qualname__}" if hook else "" for hook in hooks),
            **stages,
        )
        return asdict(facts)

    found = _kept(["method", _target(name, family), family, dict(values)], [methods.module_of(name, family)], find)
    fields = None if found["base_fields"] is None else tuple(found["base_fields"])
    return MethodFacts(**{**found, "base_fields": fields, "decision": tuple(found["decision"])})


def hyper_parameter_names(name: str, family: methods.Family) -> tuple[str, ...]:
    """What a method may be given.

    Raises:
        MethodError: for an unknown method.
    """

    def find() -> list[str]:
        return list(inspect.signature(methods.resolve(name, family)).parameters)

    return tuple(_kept(["names", _target(name, family), family], [methods.module_of(name, family)], find))


def check_method(
    name: str,
    values: Mapping[str, Any],
    family: methods.Family,
    recipe: RecipeSpec,
    scenario: Scenario,
    setting: str,
    task: str,
) -> None:
    """Let a method refuse what it cannot work on.

    Raises:
        ValueError: the method's own.
    """

    def find() -> None:
        methods.build(name, values, family).check(recipe, scenario, setting, task)

    plain = [recipe.model_dump(mode="json"), scenario.name, scenario.increments, setting, task]
    modules = [methods.module_of(name, family), networks.module_of(recipe.network["name"])]
    _kept(["check", _target(name, family), family, dict(values), *plain], modules, find)


def check_recipe(family: str, network: Mapping[str, Any], transform: Mapping[str, Any]) -> None:
    """Refuse arguments that a network or an augmentation does not have or cannot take.

    Args:
        family: of the network.
        network: ``name`` and arguments, without ``weights``.
        transform: ``name`` and arguments.

    Raises:
        ValueError: naming the argument.
    """

    def find() -> None:
        networks.check_arguments(network["name"], {key: value for key, value in network.items() if key != "name"})
        loaders.build_transform(
            family, transform["name"], {key: value for key, value in transform.items() if key != "name"}
        )

    modules = [networks.module_of(network["name"]), loaders.TRANSFORMS[family].partition(":")[0]]
    _kept(["recipe", family, dict(network), dict(transform)], modules, find)


def network_values(name: str, arguments: Mapping[str, Any], classes: int) -> int:
    """Number of values in the state of a network for this many classes; it is built without allocating memory."""

    def find() -> int:
        import torch
        from torch.overrides import TorchFunctionMode

        class Unfilled(TorchFunctionMode):
            """Leaves tensors alone that have no memory; drawing random numbers for them would load torch's compiler."""

            def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                kwargs = kwargs or {}
                if getattr(function, "__name__", "") in ("normal_", "uniform_"):  # of tensors and of torch.nn.init
                    return args[0] if args else kwargs["tensor"]
                return function(*args, **kwargs)

        with torch.device("meta"), Unfilled():
            built = networks.build(name, [classes], arguments)
        return sum(tensor.numel() for tensor in built.state_dict().values())

    return int(_kept(["values", name, dict(arguments), classes], [networks.module_of(name)], find))


def _target(name: str, family: methods.Family) -> str:
    return methods.METHODS[family].get(name, name)


def _kept(question: list[Any], modules: list[str], find: Callable[[], Any]) -> Any:
    """An answer that follows from the question, the code of some modules, and what installed packages make of them."""
    if any(module_file(module) is None for module in modules):
        return find()  # a method from outside, whose packages may change without notice
    return kept_answer(KEPT / "planning", canonical_json([question, _basis(*modules)]), find)


@cache
def _basis(*modules: str) -> list[str]:
    """Code and versions that answers depend on."""
    versions = [platform.python_version(), *map(_version, ("pydantic", "torch", "timm"))]
    return [*versions, combined_fingerprint(job_code(*modules, *_RULES))]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
