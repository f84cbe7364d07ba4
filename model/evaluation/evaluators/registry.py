"""Which function evaluates a network family on a task.

The table holds text that is resolved on demand, so that the fingerprint of an evaluation covers only the evaluator it uses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from model.common.registry import Registry
from model.evaluation.protocols import Protocol

if TYPE_CHECKING:
    from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult, Evaluator

EVALUATORS = {
    "mask": {
        "instance": "model.evaluation.evaluators.mask_instance:evaluate",
        "panoptic": "model.evaluation.evaluators.mask_panoptic:evaluate",
        "semantic": "model.evaluation.evaluators.mask_semantic:evaluate",
    },
    "per-pixel": {
        "semantic": "model.evaluation.evaluators.pixel_semantic:evaluate",
    },
}
"""Family, then task, to ``module:function``."""


GEOMETRIES = {"mask": ("full", "resize"), "per-pixel": ("full", "resize-crop")}
"""Sizes that label maps of a family can be compared at; segments and objects are always evaluated at the original size."""


class EvaluatorError(ValueError):
    """A task or protocol that a network family cannot be evaluated on."""


def module_of(family: str, task: str) -> str:
    """Dotted name of an evaluator's module; nothing is imported.

    Raises:
        EvaluatorError: if there is none.
    """
    return _registry(family, task).module_of(task)


def check_protocol(family: str, task: str, protocol: Protocol) -> None:
    """Refuse a protocol that a family's evaluator cannot follow.

    Raises:
        EvaluatorError: naming the protocol.
    """
    module_of(family, task)
    if task == "semantic" and protocol.geometry.kind not in GEOMETRIES[family]:
        raise EvaluatorError(
            f"protocol '{protocol.name}' compares at the size '{protocol.geometry.kind}', at which {family} networks cannot be "
            "evaluated; use 'segue', or a protocol of the family's own papers"
        )


def evaluate(family: str, task: str, inputs: EvaluationInputs) -> EvaluationResult:
    """Evaluate a network.

    Raises:
        EvaluatorError: if no evaluator is defined for this family and task.
        ValueError: from the evaluator, for a protocol that does not fit or data that cannot be read.
    """
    found: Evaluator = _registry(family, task).resolve(task)
    return found(inputs)


def _registry(family: str, task: str) -> Registry:
    tasks = EVALUATORS.get(family, {})
    if task not in tasks:
        raise EvaluatorError(
            f"{family} networks cannot be evaluated on {task} segmentation (only on {', '.join(tasks) or 'nothing'})"
        )
    return Registry("task", tasks, EvaluatorError)
