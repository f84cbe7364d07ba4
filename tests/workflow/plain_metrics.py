"""The metrics of the tables once more, by other means: files, loops and pycocotools; nothing of Segue is imported.

Predictions are what evaluations and ``make predict`` stored, the ground truth what a prepared dataset holds. The rules are those
of the protocol ``segue`` on a dataset whose background is unlabelled: background, void and classes not learnt yet are not
evaluated, and a mean is over the classes that occur.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

Values = dict[str, float]
"""Metric → percent."""
OfGroups = dict[str, Values]
OfClasses = dict[int, float]
"""Category id → percent, of classes that occur."""
Measured = tuple[Callable[[Mapping[str, Sequence[int]]], OfGroups], OfClasses]
"""Values of groups, as a function of the groups, and of classes."""


@dataclass(frozen=True)
class Truth:
    """A prepared dataset, of which only files are read."""

    folder: Path

    @property
    def description(self) -> dict[str, Any]:
        """``dataset.json``."""
        return json.loads((self.folder / "dataset.json").read_text())

    @property
    def things(self) -> set[int]:
        """Countable categories."""
        return {row["id"] for row in self.description["categories"] if row["isthing"]}

    @property
    def images(self) -> list[str]:
        """Ids of the validation images."""
        with (self.folder / "val.csv").open(newline="") as stream:
            return [row["id"] for row in csv.DictReader(stream)]

    def labels(self, image: str) -> list[list[int]]:
        """Rows of category ids."""
        return np.asarray(Image.open(self.folder / f"semantic/val/{image}.png")).tolist()

    def segments(self, image: str) -> tuple[list[list[int]], dict[int, int]]:
        """Rows of segment ids, and the category of each segment."""
        channels = np.asarray(Image.open(self.folder / f"panoptic/val/{image}.png").convert("RGB")).tolist()
        rows = [[r + 256 * g + 65536 * b for r, g, b in row] for row in channels]
        document = json.loads((self.folder / "panoptic_val.json").read_text())
        (listed,) = (a["segments_info"] for a in document["annotations"] if str(a["image_id"]) == image)
        assert not any(one["iscrowd"] for one in listed)
        return rows, {one["id"]: one["category_id"] for one in listed}


def pixels(*maps: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    """The values of several maps, pixel by pixel."""
    for rows in zip(*maps, strict=True):
        yield from zip(*rows, strict=True)


def mean(values: Sequence[float]) -> float:
    """Their mean."""
    return sum(values) / len(values)


# ------------------------------------------------------------------------------------------------------------------- semantic


def semantic(truth: Truth, file: Path, learnt: Sequence[int]) -> Measured:
    """mIoU, mAcc, pixel accuracy and hIoU of groups, as a function of the groups; IoU of classes.

    Args:
        truth: the dataset.
        file: ``predictions.npz`` of an evaluation that keeps all images.
        learnt: category ids in learning order.
    """
    category_of = dict(enumerate(learnt, start=1))
    both, true, predicted = Counter[int](), Counter[int](), Counter[int]()
    with np.load(file) as stored:
        assert {name.split("/", 1)[1] for name in stored.files} == set(truth.images)
        for image in truth.images:
            for label, position in pixels(truth.labels(image), stored[f"prediction/{image}"].tolist()):
                if label in learnt:
                    answer = category_of.get(position)
                    true[label] += 1
                    if answer is not None:
                        predicted[answer] += 1
                    both[label] += label == answer
    iou = {c: 100 * both[c] / (true[c] + predicted[c] - both[c]) for c in learnt if true[c]}
    accuracy = {c: 100 * both[c] / true[c] for c in learnt if true[c]}

    def of_groups(groups: Mapping[str, Sequence[int]]) -> OfGroups:
        found: OfGroups = {}
        for name, members in groups.items():
            if present := [c for c in members if true[c]]:
                found[name] = {
                    "mIoU": mean([iou[c] for c in present]),
                    "mAcc": mean([accuracy[c] for c in present]),
                    "pixel_accuracy": 100 * sum(both[c] for c in present) / sum(true[c] for c in present),
                }
        if {"old", "new", "all"} <= found.keys():
            old, new = found["old"]["mIoU"], found["new"]["mIoU"]
            found["all"]["hIoU"] = 2 * old * new / (old + new) if old + new else 0.0
        return found

    return of_groups, iou


# ------------------------------------------------------------------------------------------------------------------- panoptic


def panoptic(truth: Truth, file: Path, learnt: Sequence[int]) -> Measured:
    """PQ, SQ and RQ of groups, of their things and of their stuff, as a function of the groups; PQ of classes.

    Arguments as :func:`semantic`.
    """
    matched, false, missed = defaultdict[int, list[float]](list), Counter[int](), Counter[int]()
    with np.load(file) as stored:
        for image in truth.images:
            true_map, categories = truth.segments(image)
            maps = (stored[f"{kind}/{image}"].tolist() for kind in ("prediction_segments", "prediction"))
            shared, area, true_area, on_void = (
                Counter[tuple[int, int]](),
                Counter[int](),
                Counter[int](),
                Counter[int](),
            )
            answer: dict[int, int] = {}
            for real, segment, position in pixels(true_map, *maps):
                evaluated = categories.get(real) in learnt
                true_area[real] += evaluated
                if segment:
                    answer[segment] = learnt[position - 1]
                    area[segment] += 1
                    shared[real, segment] += evaluated
                    on_void[segment] += not evaluated
            found: set[int] = set()
            for segment, category in answer.items():
                overlaps = [
                    (
                        shared[real, segment]
                        / (true_area[real] + area[segment] - shared[real, segment] - on_void[segment]),
                        real,
                    )
                    for real in true_area
                    if categories.get(real) == category and true_area[real]
                ]
                best, real = max(overlaps, default=(0.0, 0))
                if best > 0.5:
                    matched[category].append(best)
                    found.add(real)
                elif on_void[segment] <= area[segment] / 2:
                    false[category] += 1
            for real, size in true_area.items():
                if size and real not in found:
                    missed[categories[real]] += 1
    quality: dict[int, Values] = {}
    for c in learnt:
        hits = len(matched[c])
        if weight := hits + false[c] / 2 + missed[c] / 2:
            quality[c] = {
                "PQ": 100 * sum(matched[c]) / weight,
                "SQ": 100 * sum(matched[c]) / hits if hits else 0.0,
                "RQ": 100 * hits / weight,
            }

    def of_groups(groups: Mapping[str, Sequence[int]]) -> OfGroups:
        result: OfGroups = {}
        for name, members in groups.items():
            kinds = {
                "": members,
                "_things": [c for c in members if c in truth.things],
                "_stuff": [c for c in members if c not in truth.things],
            }
            for suffix, chosen in kinds.items():
                if present := [quality[c] for c in chosen if c in quality]:
                    values = {metric + suffix: mean([one[metric] for one in present]) for metric in ("PQ", "SQ", "RQ")}
                    result.setdefault(name, {}).update(values)
        return result

    return of_groups, {c: values["PQ"] for c, values in quality.items()}


# ------------------------------------------------------------------------------------------------------------------- instance


def instance(truth: Truth, file: Path, learnt: Sequence[int]) -> Measured:
    """AP, AP50 and AP75 of groups, as a function of the groups; AP of classes: pycocotools' summary of one class at a time.

    Args:
        truth: the dataset.
        file: ``instances.json`` of ``make predict`` for the validation images.
        learnt: category ids in learning order.
    """
    number = {image: place for place, image in enumerate(truth.images, start=1)}
    document = json.loads((truth.folder / "instances_val.json").read_text())
    for one in document["annotations"]:
        one["image_id"] = number[one["image_id"]]
    document["images"] = [{**one, "id": number[one["id"]]} for one in document["images"]]
    results = [{**one, "image_id": number[one["image_id"]]} for one in json.loads(file.read_text())]
    quality: dict[int, Values] = {}
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools tells its progress
        annotated = COCO()
        annotated.dataset = document
        annotated.createIndex()
        detected = annotated.loadRes(results)
        for category in learnt:
            evaluation = COCOeval(annotated, detected, "segm")
            evaluation.params.catIds = [category]
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            if evaluation.stats[0] >= 0:
                quality[category] = dict(
                    zip(("AP", "AP50", "AP75"), (100 * evaluation.stats[:3]).tolist(), strict=True)
                )

    def of_groups(groups: Mapping[str, Sequence[int]]) -> OfGroups:
        found: OfGroups = {}
        for name, members in groups.items():
            if present := [quality[c] for c in members if c in quality]:
                found[name] = {metric: mean([one[metric] for one in present]) for metric in ("AP", "AP50", "AP75")}
        return found

    return of_groups, {c: values["AP"] for c, values in quality.items()}


# ----------------------------------------------------------------------------------------------------------------- over steps


def over_steps(
    steps: Sequence[OfClasses],
    increments: Sequence[Sequence[int]],
    best: OfClasses,
    groups: Mapping[str, Sequence[int]],
) -> OfGroups:
    """Forgetting, backward transfer and intransigence of groups after the last step.

    Args:
        steps: value of every class known after each step.
        increments: category ids learnt in each step.
        best: value of every class for the upper bound.
        groups: after the last step.
    """
    last = len(steps) - 1
    of_classes: dict[str, OfClasses] = {"forgetting": {}, "backward_transfer": {}, "intransigence": {}}
    for learnt, members in enumerate(increments):
        for c in members:
            if learnt < last:
                before = [steps[step][c] for step in range(learnt, last)]
                of_classes["forgetting"][c] = max(before) - steps[last][c]
                of_classes["backward_transfer"][c] = steps[last][c] - before[0]
            if learnt:
                of_classes["intransigence"][c] = best[c] - steps[learnt][c]
    found: OfGroups = {}
    for metric, values in of_classes.items():
        for name, members in groups.items():
            if present := [values[c] for c in members if c in values]:
                found.setdefault(name, {})[metric] = mean(present)
    return found
