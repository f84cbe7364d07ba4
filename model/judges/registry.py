"""Which function judges the networks of a family on a task.

The table holds text, resolved when asked, so that the fingerprint of an evaluation follows only the judge that it uses.
"""

from __future__ import annotations

import importlib

from model.evaluation.protocols import Protocol
from model.judges.base import Assignment, Judge, Verdict

JUDGES = {
    ("mask", "instance"): "model.judges.mask_instance:judge",
    ("mask", "panoptic"): "model.judges.mask_panoptic:judge",
    ("mask", "semantic"): "model.judges.mask_semantic:judge",
    ("per-pixel", "semantic"): "model.judges.pixel_semantic:judge",
}
"""(family, task) to ``module:function``."""


GEOMETRIES = {"mask": ("full", "resize"), "per-pixel": ("full", "resize-crop")}
"""Sizes that label maps of a family can be compared at; segments and objects are always judged at the original size."""


class JudgeError(ValueError):
    """A task that a family of networks is not judged on."""


def module_of(family: str, task: str) -> str:
    """Dotted name of the module that a judge lives in; nothing is imported.

    Raises:
        JudgeError: if there is none.
    """
    return _entry(family, task)[0]


def check_protocol(family: str, task: str, protocol: Protocol) -> None:
    """Refuse a protocol that a family's judge cannot follow.

    Raises:
        JudgeError: naming the protocol.
    """
    module_of(family, task)
    if task == "semantic" and protocol.geometry.kind not in GEOMETRIES[family]:
        raise JudgeError(
            f"protocol '{protocol.name}' compares at the size '{protocol.geometry.kind}', which {family} networks are not "
            "judged at; use 'segue', or a protocol of the family's own papers"
        )


def judge(family: str, task: str, assignment: Assignment) -> Verdict:
    """Judge a network.

    Raises:
        JudgeError: if there is no judge.
        ValueError: of the judge, for a protocol that does not fit or data that cannot be read.
    """
    module, function = _entry(family, task)
    found: Judge = getattr(importlib.import_module(module), function)
    return found(assignment)


def _entry(family: str, task: str) -> tuple[str, str]:
    if (family, task) not in JUDGES:
        tasks = ", ".join(known for other, known in JUDGES if other == family)
        raise JudgeError(f"{family} networks are not judged on {task} segmentation (they are on {tasks or 'nothing'})")
    module, _, function = JUDGES[family, task].partition(":")
    return module, function
