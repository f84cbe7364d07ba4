"""The split rules against the published image sets of PASCAL VOC and ADE20K, image for image."""

import csv
import json
import os
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from model.datasets.class_index import ClassIndex
from model.datasets.splits import make_split, split_counts, validation_images
from model.scenario import Scenario, Step

DATA = os.environ.get("SEGUE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="SEGUE_DATA is not set: published image lists are not at hand")

LISTS = {
    ("voc", "train"): ("voc2012_train_aug_classes.txt", 20),
    ("voc", "val"): ("voc2012_val_classes.txt", 20),
    ("ade", "train"): ("ade20k_train_classes.txt", 150),
    ("ade", "val"): ("ade20k_val_classes.txt", 150),
}


def protocol() -> Path:
    assert DATA is not None
    return Path(DATA) / "protocol"


@cache
def class_index(dataset: str, split: str) -> ClassIndex:
    name, classes = LISTS[dataset, split]
    rows = [line.split() for line in (protocol() / name).read_text().splitlines()]
    pixels = np.zeros((len(rows), classes), dtype=np.int64)
    for row, (_, *present) in enumerate(rows):
        pixels[row, np.array(present, dtype=int) - 1] = 1
    return ClassIndex(dataset, split, tuple(row[0] for row in rows), tuple(range(1, classes + 1)), pixels)


@cache
def derived() -> dict[tuple[str, str], list[dict[str, str]]]:
    table: dict[tuple[str, str], list[dict[str, str]]] = {}
    with (protocol() / "derived_counts.tsv").open() as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            table.setdefault((row["dataset"], row["setting"]), []).append(row)
    return table


@pytest.mark.parametrize("setting", ["overlapped", "disjoint"])
def test_derived_counts(setting: str) -> None:
    assert len(derived()) >= 13
    for (dataset, name), rows in derived().items():
        index = class_index(dataset, "train")
        found = split_counts(index, Scenario.from_name(name, index.categories), "semantic", setting)
        assert found == tuple(int(row[setting]) for row in rows), (dataset, name)


def published() -> list[tuple[str, str, int, Step]]:
    classes = json.loads((protocol() / "task_classes.json").read_text())["voc"]
    lists = json.loads((protocol() / "voc_index_lists.json").read_text())
    found = []
    for task, parts in lists.items():
        steps = classes[task.removesuffix("-ov")]
        for part in parts:
            for number in map(int, parts[part]):
                past = tuple(c for step in steps[:number] for c in step if c)
                found.append((task, part, number, Step(number, past, tuple(c for c in steps[number] if c))))
    return found


def test_published_voc_lists_image_for_image() -> None:
    lists = json.loads((protocol() / "voc_index_lists.json").read_text())
    checked = 0
    for task, part, number, step in published():
        if part == "train":
            index = class_index("voc", "train")
            setting = "overlapped" if task.endswith("-ov") else "disjoint"
            found = tuple(make_split(index, step, "semantic", setting)["images"])
        else:
            index = class_index("voc", "val")
            found = validation_images(index, step, "semantic", "current" if part == "val" else "seen")
        expected = tuple(index.image_ids[row] for row in lists[task][part][str(number)])
        assert found == expected, (task, part, number)
        checked += 1
    assert checked > 60


def test_published_voc_validation_sizes() -> None:
    index = class_index("voc", "val")
    scenario = Scenario.from_name("10-1", index.categories)
    steps = [scenario.step(t) for t in range(len(scenario))]
    seen = [len(validation_images(index, step, "semantic", "seen")) for step in steps]
    current = [len(validation_images(index, step, "semantic", "current")) for step in steps]
    assert seen == [869, 893, 1005, 1081, 1140, 1240, 1277, 1329, 1353, 1421, 1449]
    assert current == [869, 75, 128, 79, 76, 446, 85, 57, 90, 84, 74]
