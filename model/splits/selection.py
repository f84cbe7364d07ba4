"""Which images a step is trained on.

Rules of class-incremental segmentation (MiB, CVPR 2020, section 4; SDR for "sequential"). With C the classes present in the
full annotation of an image (background and void never count), N the classes of the step and P those of all earlier steps:

    overlapped   C ∩ N ≠ ∅                     labels of past classes hidden
    disjoint     C ∩ N ≠ ∅ and C ⊆ N ∪ P       labels of past classes hidden
    sequential   the images of disjoint        labels of past classes kept
    partition    a list that was published     labels of past classes hidden

There is no threshold on the number of pixels; an image without any class belongs to no step. "Earlier" is meant in learning
order; the released disjoint rule of SSUL and BARM takes all classes with smaller ids instead, which is the same in the natural
order only. What an image has is decided by the annotation of the task, or of another one where a release does so: BalConpas
chooses the images of semantic segmentation by panoptic segments.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from model.data.prepared.class_index import ClassIndex
from model.scenario import SETTINGS, Step
from model.splits.image_lists import ImageList

RULES = {
    "overlapped": "at least one class of the step",
    "disjoint": "at least one class of the step and no class of a later step",
    "sequential": "at least one class of the step and no class of a later step; labels of past classes are kept",
    "partition": "listed for the step",
}
Entries = Sequence[int] | Sequence[str]
"""What an image list holds: positions among the images sorted by name, or names."""
ValidationRule = Literal["all", "seen", "current"]


class SplitError(ValueError):
    """A step that gets no images, or a setting that does not exist; the message names step, classes and remedy."""


def select_images(index: ClassIndex, step: Step, task: str, setting: str) -> np.ndarray:
    """Rows of the class index that belong to a step, ascending.

    Raises:
        SplitError: if the setting is unknown or no image is left.
    """
    rules = [name for name in SETTINGS if name != "partition"]
    if setting not in rules:
        raise SplitError(f"setting '{setting}' does not exist, or is not a rule (rules: {', '.join(rules)})")
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


def listed_images(index: ClassIndex, step: Step, task: str, wanted: ImageList, entries: Entries) -> np.ndarray:
    """Rows of the class index that a list names, ascending.

    Args:
        index: of the training images.
        step: whose list it is.
        task: whose annotation decides what an image has.
        wanted: what the list is.
        entries: its content.

    Raises:
        SplitError: if the list was drawn from another number of images, names an image that is not there, or one without a
            class of the step: it belongs to other data or another class order.
    """
    where = f"{wanted.title} of step {step.index}"
    total = len(index.image_ids)
    if wanted.total is not None and wanted.total != total:
        raise SplitError(
            f"{where} counts positions in {wanted.total} images, but split '{index.split}' of '{index.dataset}' has {total}: "
            "the partition needs the complete dataset; use another setting for a part of it"
        )
    if not entries:
        raise SplitError(f"{where} is empty")
    if wanted.entries == "positions":
        rows = _rows_at(index, [int(entry) for entry in entries], where)
    else:
        rows = index.rows([str(entry) for entry in entries])
    present = index.presence(task)[rows][:, index.columns(step.current)].any(axis=1)
    if not present.all():
        stranger = index.image_ids[rows[~present][0]]
        raise SplitError(
            f"{where} names {int((~present).sum())} images without a class of the step, '{stranger}' among them: "
            "the list belongs to another class order or to other data"
        )
    return np.sort(rows)


def _rows_at(index: ClassIndex, positions: Sequence[int], where: str) -> np.ndarray:
    by_name = np.argsort(np.array(index.image_ids))
    if min(positions) < 0 or max(positions) >= len(by_name):
        raise SplitError(f"{where} names position {max(positions)}, but there are {len(by_name)} images")
    return by_name[np.array(positions, dtype=np.int64)]


def visible_classes(step: Step, setting: str) -> tuple[int, ...]:
    """Category ids whose labels a step may use, in learning order."""
    return step.seen if setting == "sequential" else step.current


def make_split(
    index: ClassIndex,
    step: Step,
    task: str,
    setting: str,
    *,
    presence: str | None = None,
    image_list: tuple[ImageList, Entries] | None = None,
    selection: str = "",
) -> dict[str, Any]:
    """The training images of a step, as the content of its split file.

    Args:
        index: of the training images.
        step: which classes are learnt.
        task: what is learnt.
        setting: the rule; ``partition`` needs ``image_list``.
        presence: the task whose annotation decides what an image has; None for ``task`` itself.
        image_list: the list of the step and its entries.
        selection: how the images were chosen besides the setting, as in the training's spec.

    Raises:
        SplitError: as :func:`select_images` and :func:`listed_images`.
    """
    if (setting == "partition") != (image_list is not None):
        raise SplitError(f"setting '{setting}' {'needs a list of images' if image_list is None else 'takes no list'}")
    if image_list is None:
        rows = select_images(index, step, presence or task, setting)
    else:
        rows = listed_images(index, step, presence or task, *image_list)
    return {
        "dataset": index.dataset,
        "task": task,
        "setting": setting,
        "selection": selection,
        "split": index.split,
        "rule": RULES[setting] if image_list is None else f"{RULES[setting]}: {image_list[0].title}",
        "step": step.index,
        "past": list(step.past),
        "current": list(step.current),
        "visible": list(visible_classes(step, setting)),
        "images": [index.image_ids[row] for row in rows],
    }


def validation_images(index: ClassIndex, step: Step, task: str, rule: ValidationRule = "all") -> tuple[str, ...]:
    """Image ids that a step is evaluated on.

    Args:
        rule: ``all`` = the whole list (SSUL, BARM); ``seen`` = images with any class learnt so far (MiB, SDR, PLOP, DKD,
            STAR); ``current`` = images with a class of the step.
    """
    if rule == "all":
        return index.image_ids
    classes: Sequence[int] = {"seen": step.seen, "current": step.current}[rule]
    chosen = index.presence(task)[:, index.columns(classes)].any(axis=1)
    return tuple(index.image_ids[row] for row in np.flatnonzero(chosen))
