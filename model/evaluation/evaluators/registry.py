"""Which function evaluates the networks of a family on a task.

The table holds text, resolved when asked, so that the fingerprint of an evaluation follows only the evaluator that it uses.
"""

from __future__ import annotations

from model.common.registry import Registry
from model.evaluation.evaluators.base import EvaluationInputs, EvaluationResult, Evaluator
from model.evaluation.protocols import Protocol

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
    """A task that a family of networks is not evaluated on."""


def module_of(family: str, task: str) -> str:
    """Dotted name of the module that an evaluator lives in; nothing is imported.

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
            f"protocol '{protocol.name}' compares at the size '{protocol.geometry.kind}', which {family} networks are not "
            "evaluated at; use 'segue', or a protocol of the family's own papers"
        )


def evaluate(family: str, task: str, inputs: EvaluationInputs) -> EvaluationResult:
    """Evaluate a network.

    Raises:
        EvaluatorError: if no evaluator is defined for this family and task.
        ValueError: of the evaluator, for a protocol that does not fit or data that cannot be read.
    """
    found: Evaluator = _registry(family, task).resolve(task)
    return found(inputs)


def _registry(family: str, task: str) -> Registry:
    tasks = EVALUATORS.get(family, {})
    if task not in tasks:
        raise EvaluatorError(
            f"{family} networks are not evaluated on {task} segmentation (they are on {', '.join(tasks) or 'nothing'})"
        )
    return Registry("task", tasks, EvaluatorError)
