"""The records that evaluation jobs write, and how the runs of a scenario are assembled from them.

One job evaluates one checkpoint under one protocol. It does not know which runs its checkpoint belongs to: a base step is
shared by many methods and scenarios, the upper bound (``joint``) by all scenarios. So the record holds facts about the
checkpoint only: its classes, values per class, and the raw counts beside it. Identity and groups are added when results
are collected (:func:`measure`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from model.common.files import FileError, read_json
from model.common.json_files import without_checksum, write_checked
from model.evaluation.metrics.confusion import ConfusionMatrix
from model.evaluation.metrics.mean_iou import semantic_scores
from model.evaluation.metrics.overlaps import PanopticOverlaps
from model.evaluation.metrics.panoptic_quality import panoptic_scores
from model.evaluation.metrics.scores import Scores, positions_of
from model.evaluation.protocols import get

FORMAT = 1
CONFUSION, PANOPTIC, PRECISION = "confusion", "panoptic", "precision"
"""Keys of :attr:`EvaluationRecord.files` that values can be computed from."""

PRIMARY_METRIC = {"semantic": "mIoU", "panoptic": "PQ", "instance": "AP"}
"""The metric of the summary, by task."""

CLASS_METRIC = {"semantic": "IoU", "panoptic": "PQ", "instance": "AP"}
"""The per-class metric whose mean is the primary metric, by task."""


class RecordError(ValueError):
    """A record that is missing, unreadable or does not fit the run it is used for."""


@dataclass(frozen=True)
class EvaluationRecord:
    """One checkpoint evaluated under one protocol (``evaluation.json``).

    Attributes:
        dataset, task, protocol: names.
        step: index of the step that the checkpoint was trained in.
        classes: category ids in learning order.
        names: category id → class name, for every id in ``classes``.
        things: all countable category ids of the dataset, learnt or not.
        background_is_labelled: whether the dataset annotates its background.
        images: number of images evaluated.
        per_class: metric → class key → value in percent; None if the class does not occur.
        files: ``confusion`` (semantic), ``panoptic`` or ``precision`` (instance) → name of the file of counts beside the record.
        made_by: resolved spec, versions, machine, git revision and times of the job; for people, not for tables.
    """

    dataset: str
    task: str
    protocol: str
    step: int
    classes: tuple[int, ...]
    names: Mapping[int, str]
    things: tuple[int, ...]
    background_is_labelled: bool
    images: int
    per_class: Mapping[str, Mapping[str, float | None]]
    files: Mapping[str, str]
    made_by: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Write the record; the file appears only when complete."""
        document = {
            "format": FORMAT,
            "dataset": self.dataset,
            "task": self.task,
            "protocol": self.protocol,
            "step": self.step,
            "classes": list(self.classes),
            "names": {str(category): self.names[category] for category in self.classes},
            "things": list(self.things),
            "background_is_labelled": self.background_is_labelled,
            "images": self.images,
            "per_class": {metric: dict(values) for metric, values in self.per_class.items()},
            "files": dict(self.files),
            "made_by": dict(self.made_by),
        }
        write_checked(path, document)

    @classmethod
    def read(cls, path: Path) -> EvaluationRecord:
        """Read what :meth:`write` wrote.

        Raises:
            RecordError: if the file is missing, damaged or of another format.
        """
        try:
            if not path.exists():
                raise RecordError(f"{path} is missing: this evaluation has not run or has failed; run the workflow")
            document = read_json(path, "delete it to evaluate again")
            if document["format"] != FORMAT:
                raise RecordError(
                    f"{path} has format {document['format']}, this version reads {FORMAT}; evaluate again"
                )
            without_checksum(document, path, "delete it to evaluate again")
            return cls(
                dataset=document["dataset"],
                task=document["task"],
                protocol=document["protocol"],
                step=int(document["step"]),
                classes=tuple(int(category) for category in document["classes"]),
                names={int(category): name for category, name in document["names"].items()},
                things=tuple(int(category) for category in document["things"]),
                background_is_labelled=bool(document["background_is_labelled"]),
                images=int(document["images"]),
                per_class=document["per_class"],
                files=document["files"],
                made_by=document.get("made_by", {}),
            )
        except FileError as error:
            raise RecordError(str(error)) from error
        except (KeyError, TypeError, AttributeError) as error:
            raise RecordError(f"{path} is not an evaluation record ({error!r}); delete it to evaluate again") from error


@dataclass(frozen=True, order=True)
class Run:
    """A method going through a scenario with one seed: the identity that every row of a table carries."""

    dataset: str
    task: str
    scenario: str
    setting: str
    recipe: str
    method: str
    seed: int

    def __str__(self) -> str:
        return "/".join(map(str, (*self._names, f"seed{self.seed}")))

    @property
    def _names(self) -> tuple[str, ...]:
        return self.dataset, self.task, self.scenario, self.setting, self.recipe, self.method


@dataclass(frozen=True)
class Measurement:
    """The scores of a run after one step.

    Attributes:
        run: whose scores.
        step: the step after which they were measured.
        protocol: name of the protocol.
        scores: by group and by class.
        groups: the category ids of the groups.
        names: class key → class name.
        known_later: whether the network was trained on classes of later steps too, as that of ``joint`` is before the last step:
            its scores are averages over the classes of ``groups``, and there are none by class.
    """

    run: Run
    step: int
    protocol: str
    scores: Scores
    groups: Mapping[str, tuple[int, ...]]
    names: Mapping[str, str]
    known_later: bool = False


def measure(
    path: Path, run: Run, step: int, groups: Mapping[str, Sequence[int]], *, known_later: bool = False
) -> Measurement:
    """Read an evaluation record and compute the scores of one run from it.

    Args:
        path: the record; its raw counts are beside it.
        run: a run that the checkpoint belongs to.
        step: the run's step. It may differ from the record's: ``joint`` knows all classes at its step 0.
        groups: group name → category ids, from ``model.scenario.class_groups`` for ``step``.
        known_later: the network knows more classes than these, which count for nothing here.

    Raises:
        RecordError: if the record is missing, damaged, or of another dataset, task or set of classes.
    """
    record = EvaluationRecord.read(path)
    if (record.dataset, record.task) != (run.dataset, run.task):
        raise RecordError(f"{path} was made on {record.dataset} ({record.task}), not for {run}")
    seen, known = set(groups.get("all", ())), set(record.classes)
    if not (seen < known if known_later else seen == known):
        raise RecordError(
            f"{path} knows {len(record.classes)} classes, but step {step} of {run} has {len(groups.get('all', ()))}: "
            "the checkpoint belongs to another step or another class order"
        )
    protocol = get(record.protocol)
    found: list[Scores] = []
    if CONFUSION in record.files:
        matrix = ConfusionMatrix.load(path.parent / record.files[CONFUSION])
        found.append(semantic_scores(matrix, groups, protocol, record.background_is_labelled))
    if PANOPTIC in record.files:
        overlaps = PanopticOverlaps.load(path.parent / record.files[PANOPTIC])
        found.append(panoptic_scores(overlaps, record.classes, record.things, groups, protocol))
    found.append(class_means(record, groups, already={metric for scores in found for metric in scores.classes}))
    if not any(scores.classes for scores in found):
        raise RecordError(f"{path} holds no values at all; delete it to evaluate again")
    scores = merge_scores(found)
    return Measurement(
        run,
        step,
        record.protocol,
        Scores(scores.groups, {}) if known_later else scores,
        {name: tuple(members) for name, members in groups.items()},
        {str(category): name for category, name in record.names.items()},
        known_later,
    )


def class_means(record: EvaluationRecord, groups: Mapping[str, Sequence[int]], already: Iterable[str] = ()) -> Scores:
    """Group means of metrics that are defined per class only (average precision), over classes that have a value.

    Args:
        record: holds the per-class values.
        groups: group name → category ids.
        already: metrics already computed from raw counts, which are left out here.
    """
    metrics = {metric: values for metric, values in record.per_class.items() if metric not in set(already)}
    scores: dict[str, dict[str, float]] = {}
    for name, members in positions_of(groups, record.classes).items():
        keys = [str(record.classes[index]) for index in members]
        for metric, values in metrics.items():
            present = [value for key in keys if (value := values.get(key)) is not None]
            if present:
                scores.setdefault(name, {})[metric] = float(np.mean(present))
    return Scores(scores, {metric: dict(values) for metric, values in metrics.items()})


def merge_scores(parts: Iterable[Scores]) -> Scores:
    """The scores of different metrics, combined."""
    groups: dict[str, dict[str, float]] = {}
    classes: dict[str, dict[str, float | None]] = {}
    for part in parts:
        for name, values in part.groups.items():
            groups.setdefault(name, {}).update(values)
        classes.update(part.classes)
    return Scores(groups, classes)
