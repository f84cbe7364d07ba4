"""Splits and memories of the trial on real photographs, against a count of the raw annotation that shares no code with them."""

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from model.config.reading import load_config
from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.sources.prepare import prepare
from model.memory.selection import make_memory
from model.splits.selection import make_split
from model.workflow.plan import Plan

PROJECT = Path(__file__).resolve().parents[4]


def test_every_step_holds_the_images_and_segments_of_its_classes(tmp_path: Path) -> None:
    if "SEGUE_DATA" not in os.environ:
        pytest.skip("SEGUE_DATA is not set: the part of COCO is not at hand")
    plan = Plan(load_config(PROJECT / "config/trials/coco-mini.yaml", PROJECT / "config/recipes"))
    root = Path(os.environ["SEGUE_DATA"]) / "coco_panoptic_mini"
    prepare("coco", {"root": str(root)}, tmp_path, name="coco-mini")
    index = build_class_index(PreparedDataset.open(tmp_path), "train")
    raw = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    names = {row["name"]: row["id"] for row in raw["categories"]}
    segments = {
        one["file_name"].removesuffix(".png"): [s["category_id"] for s in one["segments_info"] if not s["iscrowd"]]
        for one in raw["annotations"]
    }
    run = plan.runs[0]
    memory, learnt = None, Counter[int]()
    (wanted,) = plan.config.experiments[0].scenarios
    assert not isinstance(wanted, str)
    for index_of_step, classes in enumerate(wanted.steps):
        current = {names[str(name)] for name in classes}
        expected = {image for image, found in segments.items() if current & set(found)}
        split = make_split(index, run.scenario.step(index_of_step), "panoptic", "overlapped")
        assert set(split["images"]) == expected and set(split["current"]) == current
        learnt += Counter(c for image in expected for c in segments[image] if c in current)
        memory = make_memory(memory, split, index, selection="class-proportional", size=10, seed=0)
        assert {int(c): n for c, n in memory["training_counts"].items()} == dict(learnt)
        for exemplar in memory["images"]:
            assert {int(c): n for c, n in exemplar["classes"].items()}.items() <= Counter(
                segments[exemplar["id"]]
            ).items()
