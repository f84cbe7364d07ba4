"""Published class orders: permutations, letters and names, and the step classes of the releases."""

import json
import os
from pathlib import Path

import pytest

from model.data.sources.class_orders import ClassOrderError, published_orders
from model.data.sources.coco import packaged_table
from model.scenario import Scenario

DATA = os.environ.get("SEGUE_DATA")
VOC, ADE = tuple(range(1, 21)), tuple(range(150))
COCO = tuple(category.id for category in packaged_table())


@pytest.mark.parametrize(
    ("dataset", "classes", "first"),
    [("voc", VOC, 0), ("ade20k", ADE, 1), ("coco", COCO, 0)],
    ids=["voc", "ade", "coco"],
)
def test_every_order_is_a_permutation_and_differs_from_the_others(dataset, classes, first):
    for task in ("semantic", "panoptic"):
        orders = published_orders(dataset, task, first)
        assert all(sorted(order) == list(classes) for order in orders.values())
        named = [tuple(order) for key, order in orders.items() if len(key) > 1 and not key[0].isdigit()]
        assert len(set(named)) == len(named) and tuple(classes) not in named


def test_letters_are_those_of_the_papers_of_a_task_and_names_hold_everywhere():
    semantic, panoptic = (published_orders("ade20k", task, 1) for task in ("semantic", "panoptic"))
    assert semantic["b"] == semantic["mib-b"] and semantic["c"] == semantic["mib-c"]
    assert panoptic["b"] == semantic["comformer-b"] and panoptic["c"] == semantic["comformer-c"]
    assert set("bcdefghij") <= set(semantic) & set(panoptic)
    assert {f"simcis-{number}" for number in range(1, 11)} <= set(panoptic)
    assert published_orders("ade20k", "instance") == {}


def test_a_letter_may_mean_something_else_in_one_scenario():
    orders = published_orders("voc", "semantic")
    assert Scenario.from_name("19-1b", VOC, orders).increments[1] == (5,)
    assert Scenario.from_name("15-1b", VOC, orders).increments[1:] == ((17,), (3,), (6,), (18,), (10,))
    assert set("bcdefghijklmnopqrstuvw") <= set(orders)


def test_order_c_of_coco_starts_with_52_things_and_31_kinds_of_stuff():
    scenario = Scenario.from_name("83-5c", COCO, published_orders("coco", "panoptic"))
    things = {category.id for category in packaged_table() if category.isthing}
    assert len(scenario) == 11 and sum(category in things for category in scenario.increments[0]) == 52
    names = {category.id: category.name for category in packaged_table()}
    assert [names[c] for c in scenario.increments[1]] == [
        "stop sign",
        "road",
        "tent",
        "mountain-merged",
        "floor-other-merged",
    ]


def test_an_order_of_things_is_for_instances_alone():
    orders = published_orders("coco", "instance")
    things = [category for category in packaged_table() if category.isthing]
    assert list(orders) == ["cisdq"] and sorted(orders["cisdq"]) == sorted(thing.id for thing in things)
    names = {thing.id: thing.name for thing in things}
    assert [names[c] for c in orders["cisdq"][:4]] == ["person", "car", "chair", "book"]
    assert [names[c] for c in orders["cisdq"][-2:]] == ["toaster", "hair drier"]
    scenario = Scenario.from_name("40-4.cisdq", [thing.id for thing in things], orders)
    assert [len(step) for step in scenario.increments] == [40] + 10 * [4]
    assert not {"cisdq"} & {*published_orders("coco", "panoptic"), *published_orders("coco", "semantic")}


def test_an_unknown_table_is_named():
    with pytest.raises(ClassOrderError, match=r"class_orders_camvid\.csv does not exist"):
        published_orders("camvid", "semantic")


@pytest.mark.skipif(not DATA, reason="SEGUE_DATA is not set: the classes of the released tasks are not at hand")
def test_steps_have_the_classes_of_the_released_tasks():
    released = json.loads((Path(str(DATA)) / "protocol" / "task_classes.json").read_text())
    ours = {"15-5s": "15-1", "10-10s": "10-1", "10-5-5": "10-5", "50": "50-50", "50b": "50-50b", "50c": "50-50c"}
    checked = 0
    for dataset, classes, first in (("voc", VOC, 0), ("ade20k", ADE, 1)):
        orders = published_orders(dataset, "semantic", first)
        for name, steps in released[dataset.removesuffix("20k")].items():
            if name == "offline":
                continue
            scenario = Scenario.from_name(ours.get(name, name), classes, orders)
            found = [sorted(category + first for category in step) for step in scenario.increments]
            assert found == [sorted(set(step) - {0}) for step in steps], (dataset, name)
            checked += 1
    assert checked == 16
