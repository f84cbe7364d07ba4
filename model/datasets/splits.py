"""Which images a step is trained on.

Rules of class-incremental segmentation (MiB, CVPR 2020, section 4; SDR for "sequential"). With C the classes present in the
full annotation of an image (background and void never count), N the classes of the step and P those of all earlier steps:

    overlapped   C ∩ N ≠ ∅                     labels of past classes hidden
    disjoint     C ∩ N ≠ ∅ and C ⊆ N ∪ P       labels of past classes hidden
    sequential   the images of disjoint        labels of past classes kept

There is no threshold on the number of pixels; an image without any class belongs to no step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from model.datasets.class_index import ClassIndex
from model.scenario import SETTINGS, Scenario, Step

RULES = {
    "overlapped": "at least one class of the step",
    "disjoint": "at least one class of the step and no class of a later step",
    "sequential": "at least one class of the step and no class of a later step; labels of past classes are kept",
}
ValidationRule = Literal["all", "seen", "current"]


class SplitError(ValueError):
    """A step that gets no images, or a setting that does not exist; the message names step, classes and remedy."""


def select_images(index: ClassIndex, step: Step, task: str, setting: str) -> np.ndarray:
    """Rows of the class index that belong to a step, ascending.

    Raises:
        SplitError: if the setting is unknown or no image is left.
    """
    if setting not in SETTINGS:
        raise SplitError(f"setting '{setting}' does not exist (known: {', '.join(SETTINGS)})")
    presence = index.presence(task)
    chosen = presence[:, index.columns(step.current)].any(axis=1)
    if setting != "overlapped":
        later = np.ones(len(index.categories), dtype=bool)
        later[index.columns(step.seen)] = False
        chosen &= ~presence[:, later].any(axis=1)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        raise SplitError(
            f"step {step.index} of the {setting} setting has no image in split '{index.split}' of '{index.dataset}': "
            f"none of {len(index.image_ids)} images has {RULES[setting]} (classes of the step: {list(step.current)}). "
            "Use the overlapped setting, another class order, or more images"
        )
    return rows


def visible_classes(step: Step, setting: str) -> tuple[int, ...]:
    """Category ids whose labels a step may use, in learning order."""
    return step.seen if setting == "sequential" else step.current


def make_split(index: ClassIndex, step: Step, task: str, setting: str) -> dict[str, Any]:
    """The training images of a step, as the content of its split file.

    Raises:
        SplitError: as :func:`select_images`.
    """
    rows = select_images(index, step, task, setting)
    return {
        "dataset": index.dataset,
        "task": task,
        "setting": setting,
        "split": index.split,
        "rule": RULES[setting],
        "step": step.index,
        "past": list(step.past),
        "current": list(step.current),
        "visible": list(visible_classes(step, setting)),
        "images": [index.image_ids[row] for row in rows],
    }


def split_counts(index: ClassIndex, scenario: Scenario, task: str, setting: str) -> tuple[int, ...]:
    """Number of training images of every step.

    Raises:
        SplitError: as :func:`select_images`, for the first step without an image.
    """
    return tuple(len(select_images(index, scenario.step(t), task, setting)) for t in range(len(scenario)))


def validation_images(index: ClassIndex, step: Step, task: str, rule: ValidationRule = "all") -> tuple[str, ...]:
    """Image ids that a step is judged on.

    Args:
        rule: ``all`` = the whole list (SSUL, BARM); ``seen`` = images with any class learnt so far (MiB, SDR, PLOP, DKD,
            STAR); ``current`` = images with a class of the step.
    """
    if rule == "all":
        return index.image_ids
    classes: Sequence[int] = {"seen": step.seen, "current": step.current}[rule]
    chosen = index.presence(task)[:, index.columns(classes)].any(axis=1)
    return tuple(index.image_ids[row] for row in np.flatnonzero(chosen))
