"""The split rules against the published image sets of PASCAL VOC and ADE20K, image for image."""

import csv
import json
import os
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from presence_lists import class_index, protocol

from model.data.sources.class_orders import published_orders
from model.scenario import Scenario, Step
from model.splits.image_lists import published_lists, read_image_list
from model.splits.selection import SplitError, make_split, select_images, validation_images

DATA = os.environ.get("SEGUE_DATA")
pytestmark = pytest.mark.skipif(not DATA, reason="SEGUE_DATA is not set: published image lists are not at hand")

NAMES = {"voc": "voc", "ade": "ade20k"}


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
        index = class_index(NAMES[dataset], "train")
        scenario = Scenario.from_name(name, index.categories)
        steps = map(scenario.step, range(len(scenario)))
        found = [len(select_images(index, step, "semantic", setting)) for step in steps]
        assert found == [int(row[setting]) for row in rows], (dataset, name)


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
    checked: Counter[str] = Counter()
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
        checked["train" if part == "train" else "evaluated"] += 1
    assert checked == {"train": 33, "evaluated": 46}


def test_published_partition_of_ade20k_as_read(tmp_path: Path) -> None:
    index = class_index("ade20k", "train")
    orders = published_orders("ade20k", "semantic")
    lists = json.loads((protocol() / "ade_index_lists.json").read_text())
    theirs = {"50-50": "50", "50-50b": "50b"}
    for released in published_lists("ade20k"):
        scenario = Scenario.from_name(released.scenario, index.categories, orders)
        everywhere: Counter[str] = Counter()
        for number, wanted in enumerate(released.steps):
            expected = lists[theirs.get(released.scenario, released.scenario)]["train"][str(number)]
            np.save(tmp_path / "list.npy", np.array(expected))
            entries = read_image_list(tmp_path / "list.npy", wanted)
            split = make_split(index, scenario.step(number), "semantic", "partition", image_list=(wanted, entries))
            assert split["images"] == [index.image_ids[row] for row in expected]
            everywhere.update(split["images"])
        assert len(everywhere) == 20196 and set(everywhere.values()) == {1}, "every image has one step"


def test_the_partition_of_one_order_is_refused_for_another(tmp_path: Path) -> None:
    index = class_index("ade20k", "train")
    lists = json.loads((protocol() / "ade_index_lists.json").read_text())
    wanted = next(one for one in published_lists("ade20k") if one.scenario == "100-50b").steps[1]
    step = Scenario.from_name("100-50c", index.categories, published_orders("ade20k", "semantic")).step(1)
    with pytest.raises(SplitError, match="images without a class of the step"):
        make_split(index, step, "semantic", "partition", image_list=(wanted, lists["100-50b"]["train"]["1"]))


def test_published_counts_of_the_two_rules() -> None:
    classes = json.loads((protocol() / "task_classes.json").read_text())
    checked = 0
    with (protocol() / "published_counts.tsv").open() as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            task, _, part = row["list"].partition("/")
            if part != "train":
                continue
            steps = [tuple(c for c in step if c) for step in classes[row["dataset"]][task.removesuffix("-ov")]]
            number = int(row["step"])
            step = Step(number, tuple(c for past in steps[:number] for c in past), steps[number])
            index = class_index(NAMES[row["dataset"]], "train")
            found = [len(select_images(index, step, "semantic", rule)) for rule in ("overlapped", "disjoint")]
            assert found == [int(row["any_new_class"]), int(row["only_new_old_bg"])], row
            checked += 1
    assert checked == 33 + 22


def test_published_voc_validation_sizes() -> None:
    index = class_index("voc", "val")
    scenario = Scenario.from_name("10-1", index.categories)
    steps = [scenario.step(t) for t in range(len(scenario))]
    seen = [len(validation_images(index, step, "semantic", "seen")) for step in steps]
    current = [len(validation_images(index, step, "semantic", "current")) for step in steps]
    assert seen == [869, 893, 1005, 1081, 1140, 1240, 1277, 1329, 1353, 1421, 1449]
    assert current == [869, 75, 128, 79, 76, 446, 85, 57, 90, 84, 74]
