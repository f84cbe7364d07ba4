import json
import os
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.sources import registry as sources
from model.data.sources.coco import Coco, CocoError, packaged_table, read_categories

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1, "supercategory": "person"},
    {"id": 44, "name": "bottle", "isthing": 1, "supercategory": "kitchen"},
    {"id": 200, "name": "rug-merged", "isthing": 0, "supercategory": "floor"},
]
SEGMENTS = {7: (1, 0), 300: (1, 1), 70000: (200, 0), 9: (44, 0)}
"""Segment id: category and crowd."""


def drawing() -> np.ndarray:
    ids = np.zeros((20, 30), np.int32)
    ids[2:10, 2:10], ids[2:10, 12:20], ids[12:], ids[4:8, 22:28] = 7, 300, 70000, 9
    return ids


def write_raw(root: Path, ids: np.ndarray, **changes: Any) -> None:
    rows = [
        {
            "id": number,
            "category_id": category,
            "iscrowd": crowd,
            "area": int((ids == number).sum()),
            "bbox": [0, 0, 1, 1],
        }
        for number, (category, crowd) in SEGMENTS.items()
    ]
    for split in ("train2017", "val2017"):
        for part in (split, f"panoptic_{split}", "annotations"):
            (root / part).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / split / "000000000009.jpg"), np.full((20, 30, 3), 90, np.uint8))
        encoded = np.stack([ids >> 16, ids >> 8 & 255, ids & 255], axis=-1).astype(np.uint8)
        cv2.imwrite(str(root / f"panoptic_{split}" / "000000000009.png"), encoded)
        content = {
            "images": [{"id": 9, "file_name": "000000000009.jpg", "height": 20, "width": 30}],
            "annotations": [{"image_id": 9, "file_name": "000000000009.png", "segments_info": rows}],
            "categories": CATEGORIES,
            **changes,
        }
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))


@pytest.fixture
def prepared(tmp_path: Path) -> PreparedDataset:
    write_raw(tmp_path / "raw", drawing())
    sources.prepare("coco", {"root": str(tmp_path / "raw")}, tmp_path / "done", name="tiny")
    return PreparedDataset.open(tmp_path / "done")


def test_maps_and_annotations_follow_the_segments(prepared: PreparedDataset) -> None:
    (record,) = prepared.records("train")
    ids, semantic = prepared.read_panoptic("train", record), prepared.read_semantic("train", record)
    assert np.array_equal(ids, drawing())
    for number, (category, crowd) in SEGMENTS.items():
        assert set(np.unique(semantic[ids == number])) == {255 if crowd else category}
    assert (semantic[ids == 0] == 255).all()
    assert (prepared.background_id, prepared.void_id, prepared.background_is_labelled) == (None, 255, False)
    (annotation,) = prepared.panoptic_annotations("train")["annotations"]
    assert {s["id"]: (s["category_id"], s["iscrowd"]) for s in annotation["segments_info"]} == SEGMENTS


def test_instances_are_the_segments_of_things(prepared: PreparedDataset) -> None:
    objects = prepared.instance_annotations("val")["annotations"]
    assert [(one["category_id"], one["iscrowd"]) for one in objects] == [(1, 0), (1, 1), (44, 0)]
    assert np.array_equal(coco_mask.decode(objects[0]["segmentation"]) > 0, drawing() == 7)
    assert prepared.classes("instance") == (1, 44) and prepared.classes("panoptic") == (1, 44, 200)


def test_crowds_count_nowhere(prepared: PreparedDataset) -> None:
    index = build_class_index(prepared, "train")
    assert index.counts("panoptic").tolist() == [[1, 1, 1]]
    assert index.counts("instance").tolist() == [[1, 1, 0]]
    assert index.counts("semantic").tolist() == [[1, 1, 1]]


def test_problems_are_named(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    assert "does not exist" in Coco(str(raw)).missing()[0]
    ids = drawing()
    ids[0, 0] = 5
    write_raw(raw, ids)
    with pytest.raises(CocoError, match="has segment 5, which its annotation does not list"):
        Coco(str(raw)).prepare(tmp_path / "done", "tiny", 1)
    write_raw(raw, drawing(), categories=CATEGORIES[:2])
    with pytest.raises(CocoError, match="class 200, which is not in the class table"):
        Coco(str(raw)).prepare(tmp_path / "done", "tiny", 1)
    write_raw(raw, drawing(), categories=[{**CATEGORIES[0], "id": 255}])
    with pytest.raises(CocoError, match="category ids"):
        Coco(str(raw)).categories()


def test_the_class_table_is_known_before_there_is_anything(tmp_path: Path) -> None:
    table = Coco(str(tmp_path / "nowhere")).categories()
    assert len(table) == 133 and sum(category.isthing for category in table) == 80
    assert (table[0].id, table[0].name, table[-1].id, table[-1].name) == (1, "person", 200, "rug-merged")
    write_raw(tmp_path / "raw", drawing())
    assert [category.name for category in Coco(str(tmp_path / "raw")).categories()] == [r["name"] for r in CATEGORIES]


def test_the_class_table_is_found_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "annotation.json"
    for keys in (("categories", "annotations"), ("annotations", "categories")):
        content = {"categories": CATEGORIES, "annotations": [{"segments_info": [{"id": 3}]}]}
        file.write_text(json.dumps({key: content[key] for key in keys}, indent=1))
        assert read_categories(file) == CATEGORIES
    whole = file.read_bytes()
    for broken in (b"", whole[: len(whole) // 2], b'{"annotations": []}'):
        file.write_bytes(broken)
        with pytest.raises(CocoError, match=r"annotation\.json is not a complete panoptic annotation: unpack .* again"):
            read_categories(file)


def test_the_packaged_class_table_is_that_of_the_panoptic_annotation() -> None:
    if "SEGUE_DATA" not in os.environ:
        pytest.skip("SEGUE_DATA is not set: the sample of COCO's panoptic API is not at hand")
    file = Path(os.environ["SEGUE_DATA"]) / "coco_panoptic_sample/panoptic_coco_categories.json"
    official = json.loads(file.read_text())
    ours = [(c.id, c.name, int(c.isthing)) for c in packaged_table()]
    assert ours == [(row["id"], row["name"], row["isthing"]) for row in official]


def test_a_part_of_one_split_may_stand_for_both(tmp_path: Path) -> None:
    write_raw(tmp_path / "raw", drawing())
    shutil.rmtree(tmp_path / "raw" / "val2017")
    source = Coco(str(tmp_path / "raw"), val="train2017", first=1)
    assert source.missing() == [] and Coco(str(tmp_path / "raw")).missing() != []
    source.prepare(tmp_path / "done", "tiny", 1)
    dataset = PreparedDataset.open(tmp_path / "done")
    assert [len(dataset.records(split)) for split in ("train", "val")] == [1, 1]
    with pytest.raises(CocoError, match="first = 0"):
        Coco(str(tmp_path / "raw"), first=0)


def test_the_real_sample_agrees_with_an_independent_count(tmp_path: Path) -> None:
    if "SEGUE_DATA" not in os.environ:
        pytest.skip("SEGUE_DATA is not set: the part of COCO is not at hand")
    root = Path(os.environ["SEGUE_DATA"]) / "coco_panoptic_mini"
    sources.prepare("coco", {"root": str(root)}, tmp_path, name="coco-mini")
    dataset = PreparedDataset.open(tmp_path)
    index = build_class_index(dataset, "train")
    content = json.loads((root / "annotations/panoptic_train2017.json").read_text())
    rows = [s for one in content["annotations"] for s in one["segments_info"] if not s["iscrowd"]]
    count = Counter(s["category_id"] for s in rows)
    assert dict(zip(index.categories, index.counts("panoptic").sum(axis=0).tolist(), strict=True)) == {
        c: count.get(c, 0) for c in index.categories
    }
    ours = {one["file_name"]: one for one in dataset.panoptic_annotations("train")["annotations"]}
    assert len(ours) == len(content["annotations"])
    for official in content["annotations"]:  # numbers, areas, boxes, classes and crowds, and the pixels of each
        assert ours[official["file_name"]]["segments_info"] == official["segments_info"]
        ids = dataset.read_panoptic("train", dataset.record("train", official["file_name"][:-4]))
        values, pixels = np.unique(ids[ids > 0], return_counts=True)
        areas = {segment["id"]: segment["area"] for segment in official["segments_info"]}
        assert dict(zip(values.tolist(), pixels.tolist(), strict=True)) == areas
    crowds = {
        one["file_name"]: [s["id"] for s in one["segments_info"] if s["iscrowd"]] for one in content["annotations"]
    }
    for record in dataset.records("train"):
        theirs = cv2.imread(str(root / "semantic_train2017" / f"{record.id}.png"), cv2.IMREAD_UNCHANGED)
        ours, ids = dataset.read_semantic("train", record), dataset.read_panoptic("train", record)
        expected = np.where(np.isin(ids, [0, *crowds[f"{record.id}.png"]]), 255, theirs)
        assert np.array_equal(ours, expected)


def test_the_sample_of_the_panoptic_api_agrees_in_its_detection_form(tmp_path: Path) -> None:
    if "SEGUE_DATA" not in os.environ:
        pytest.skip("SEGUE_DATA is not set: the sample of COCO's panoptic API is not at hand")
    sample, root = Path(os.environ["SEGUE_DATA"]) / "coco_panoptic_sample", tmp_path / "raw"
    (root / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        (root / split).symlink_to(sample / "input_images")
        (root / f"panoptic_{split}").symlink_to(sample / "panoptic_examples")
        (root / f"annotations/panoptic_{split}.json").symlink_to(sample / "panoptic_examples.json")
    sources.prepare("coco", {"root": str(root)}, tmp_path / "out", name="sample")
    dataset = PreparedDataset.open(tmp_path / "out")
    things = set(dataset.classes("instance"))
    expected = [
        (f"{one['image_id']:012d}", one["category_id"], one["area"], coco_mask.decode(one["segmentation"]).tobytes())
        for one in json.loads((sample / "panoptic_coco_detection_format.json").read_text())["annotations"]
        if one["category_id"] in things
    ]
    found = [
        (one["image_id"], one["category_id"], one["area"], coco_mask.decode(one["segmentation"]).tobytes())
        for one in dataset.instance_annotations("val")["annotations"]
    ]
    assert sorted(found) == sorted(expected) and found
