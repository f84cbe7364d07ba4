"""The files that a training job reads besides images: the split of its step and the memory of exemplars.

Both were written by other jobs. Here they are checked against the job's own description, so that a file of another
scenario, setting or step is an error at the start and not a wrong number at the end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.memory.memory_file import read_memory
from model.splits.split_file import read_split
from model.training.spec import TrainingSpec


class InputError(ValueError):
    """A split or memory file that does not belong to the job; the message names the file and the key."""


@dataclass(frozen=True)
class StepImages:
    """What a step trains on.

    Attributes:
        split: of the prepared dataset, e.g. ``train``.
        images: ids of the step's own images.
        visible: category ids whose labels the step sees in them.
        exemplars: ids of replayed images.
        exemplar_classes: of each exemplar, the past category ids that were labelled when it was chosen. Networks that
            label every pixel see the labels of all classes in exemplars, sets of masks these only.
    """

    split: str
    images: tuple[str, ...]
    visible: tuple[int, ...]
    exemplars: tuple[str, ...] = ()
    exemplar_classes: tuple[tuple[int, ...], ...] = ()


def read_step_images(spec: TrainingSpec, split: Path, memory: Path | None) -> StepImages:
    """Read the split file and, where there is one, the memory file.

    Raises:
        FileError: if a file cannot be read, or does not have the expected layout.
        InputError: if it belongs to another dataset, task, setting or step.
    """
    step = spec.step
    listed = read_split(split)
    expected = {
        "dataset": spec.dataset,
        "task": spec.task,
        "setting": spec.setting,
        "step": step.index,
        "past": list(step.past),
        "current": list(step.current),
    }
    if spec.selection:
        expected["selection"] = spec.selection
    _verify(listed, expected, split)
    replayed: list[Mapping[str, Any]] = []
    if memory is not None:
        kept = read_memory(memory)
        _verify(
            kept, {"dataset": spec.dataset, "task": spec.task, "step": step.index, "classes": list(step.past)}, memory
        )
        replayed = kept["images"]
    return StepImages(
        listed["split"],
        tuple(listed["images"]),
        tuple(listed["visible"]),
        tuple(image["id"] for image in replayed),
        tuple(tuple(map(int, image["classes"])) for image in replayed),
    )


def _verify(content: Mapping[str, Any], expected: Mapping[str, Any], path: Path) -> None:
    for key, value in expected.items():
        found = content.get(key)
        if found != value:
            raise InputError(
                f"{path}: has {key} = {found}, but the job is about {key} = {value}; give the job's own file, or delete "
                "this one to have it made again"
            )
