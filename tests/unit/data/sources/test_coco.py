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
from model.data.sources.coco import Coco, CocoError, packaged_table, read_categories
from model.data.sources.prepare import prepare

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
    prepare("coco", {"root": str(tmp_path / "raw")}, tmp_path / "done", name="tiny")
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


def annotation(root: Path, change: Any, file: str = "panoptic_train2017.json") -> None:
    """Change an annotation."""
    path = root / "annotations" / file
    content = json.loads(path.read_text())
    content = change(content) or content
    path.write_text(content if isinstance(content, str) else json.dumps(content))


def at(*path: str | int, value: Any = None) -> Any:
    """Set an entry; the value ``...`` removes it."""

    def change(content: Any) -> None:
        for part in path[:-1]:
            content = content[part]
        if value is ...:
            del content[path[-1]]
        else:
            content[path[-1]] = value

    return change


FIRST = ("annotations", 0)
SEGMENT = (*FIRST, "segments_info", 0)
NESTED = '{"a":' * 100_000 + "1" + "}" * 100_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            at(*SEGMENT, "category_id"),
            r"annotations\[0\]\.segments_info\[0\]\.category_id is 'None', expected a valid int",
        ),
        (at(*SEGMENT, "category_id", value="1"), r"segments_info\[0\]\.category_id is '1', expected a valid integer"),
        (at(*SEGMENT, "iscrowd"), r"segments_info\[0\]\.iscrowd is 'None', expected"),
        (at(*SEGMENT, "iscrowd", value=2), r"segments_info\[0\]\.iscrowd is '2', expected"),
        (at(*SEGMENT, "id"), r"segments_info\[0\]\.id is 'None', expected a valid integer"),
        (at(*SEGMENT, "id", value=0), r"segments_info\[0\]\.id is '0', expected greater than or equal to 1"),
        (at(*SEGMENT, "area", value="large"), r"segments_info\[0\]\.area is 'large', expected"),
        (at(*SEGMENT, "bbox", value=[1]), r"segments_info\[0\]\.bbox is "),
        (at(*FIRST, "segments_info", value={}), r"annotations\[0\]\.segments_info is '{}', expected a valid list"),
        (at(*FIRST, "image_id"), r"annotations\[0\]\.image_id is 'None', expected"),
        (at(*FIRST, "image_id", value=[9]), r"annotations\[0\]\.image_id is '\[9\]', expected"),
        (at(*FIRST, "file_name", value=9), r"annotations\[0\]\.file_name is '9', expected a valid string"),
        (at("images", 0, "id", value={"a": 1}), r"images\[0\]\.id is \"{'a': 1}\", expected"),
        (at("images", 0, "file_name"), r"images\[0\]\.file_name is 'None', expected a valid string"),
        (at("images", value=["a"]), r"images\[0\] is 'a', expected"),
        (at("annotations", value={}), "annotations is no list"),
        (at("categories", 0, "name", value=...), r"categories\[0\] has no 'name'"),
        (at("categories", 0, "isthing", value=...), r"categories\[0\] has no 'isthing'"),
        (at("categories", 0, "id"), r"categories\[0\]\.id is 'None', expected a valid integer"),
        (at("categories", 0, "color"), r"categories\[0\]\.color is 'None', expected a valid list"),
        (at("categories", 0, "color", value=[1, 2, 300]), r"categories\[0\]\.color\[2\] is '300', expected less than"),
        (at("categories", 0, value="person"), r"categories\[0\] is 'person', expected"),
        (at("categories", value=[CATEGORIES]), r"categories\[0\] is .*, expected"),
        (at("categories", value={"id": 1}), "panoptic_train2017.json"),
        (at("categories", 1, "id", value=1), r"categories\[0\] and categories\[1\] both have id 1: remove one"),
        (at("categories", 1, "name", value="person"), r"categories\[0\] and categories\[1\] both have name 'person'"),
        (
            at("zzz", value={"categories": CATEGORIES[:1]}),
            "another list named 'categories' comes after the class table",
        ),
        (at("zzz", value={"categories": []}), "panoptic_train2017.json"),
        (lambda _: NESTED, "panoptic_train2017.json"),
        (lambda _: '{"categories": ' + "[" * 100_000 + "]" * 100_000 + "}", "panoptic_train2017.json"),
        (lambda _: "[1, 2]", "panoptic_train2017.json"),
        (
            lambda c: c["annotations"].append(c["annotations"][0]),
            "annotations.0. and annotations.1. both have image_id 9",
        ),
        (lambda c: c["images"].append(c["images"][0]), "images.0. and images.1. both have id 9: remove one"),
        (at(*FIRST, "file_name", value="../x.png"), r"the name '\.\./x\.png' leads out of the folder"),
        (at("images", 0, "file_name", value="/etc/passwd"), "the name '/etc/passwd' leads out of the folder"),
    ],
)
def test_an_annotation_that_is_laid_out_otherwise_is_one_line(tmp_path: Path, change: Any, message: str) -> None:
    write_raw(tmp_path / "raw", drawing())
    annotation(tmp_path / "raw", change)
    with pytest.raises(ValueError, match=message) as problem:
        prepare("coco", {"root": str(tmp_path / "raw")}, tmp_path / "done", name="tiny")
    assert "panoptic_train2017.json" in str(problem.value) and "\n" not in str(problem.value)
    assert not list(tmp_path.rglob("x.png"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([[1, 2]], r"annotations\[0\]\.segmentation"),
        ([], r"annotations\[0\]\.segmentation"),
        (None, r"annotations\[0\]\.segmentation is 'None', expected"),
        ({"size": [20, 30]}, r"annotations\[0\]\.segmentation"),
        ({"size": [20, 31], "counts": [620]}, r"is \(30, 20\), but the mask of one of its objects is \(31, 20\)"),
        ({"size": [20, 30], "counts": [5, 10**6]}, "the mask of one of its objects cannot be read"),
        ({"size": [20, 30], "counts": "\u0001 no mask"}, "the mask of one of its objects cannot be read"),
    ],
)
def test_the_mask_of_an_official_object_is_looked_at(tmp_path: Path, value: Any, message: str) -> None:
    write_raw(tmp_path / "raw", drawing())
    row = {
        "id": 1,
        "image_id": 9,
        "category_id": 1,
        "iscrowd": 0,
        "area": 4.0,
        "bbox": [1, 1, 2, 2],
        "segmentation": value,
    }
    for split in ("train2017", "val2017"):
        (tmp_path / f"raw/annotations/instances_{split}.json").write_text(json.dumps({"annotations": [row]}))
    options = {"root": str(tmp_path / "raw"), "instances": "official"}
    with pytest.raises(ValueError, match=message):
        prepare("coco", options, tmp_path / "done", name="tiny")


def in_folders(root: Path, names: tuple[str, ...]) -> None:
    """Images under the given names; the first pixel of a map tells which is which."""
    for split in ("train2017", "val2017"):
        listed, rows = [], []
        for number, name in enumerate(names):
            photograph, drawn = root / split / f"{name}.jpg", root / f"panoptic_{split}" / f"{name}.png"
            for file in (photograph, drawn):
                file.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(photograph), np.full((4, 4, 3), 90, np.uint8))
            cv2.imwrite(str(drawn), np.full((4, 4, 3), (0, 0, 7), np.uint8))
            category = (1, 44)[number % 2]
            segment = {"id": 7, "category_id": category, "iscrowd": 0, "area": 16, "bbox": [0, 0, 4, 4]}
            listed.append({"id": number, "file_name": f"{name}.jpg"})
            rows.append({"image_id": number, "file_name": f"{name}.png", "segments_info": [segment]})
        content = {"images": listed, "annotations": rows, "categories": CATEGORIES}
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"panoptic_{split}.json").write_text(json.dumps(content))


def test_images_of_one_name_in_two_folders_keep_their_own_labels(tmp_path: Path) -> None:
    in_folders(tmp_path / "raw", ("one", "s/one"))
    prepare("coco", {"root": str(tmp_path / "raw")}, tmp_path / "done", name="tiny")
    dataset = PreparedDataset.open(tmp_path / "done")
    assert [record.id for record in dataset.records("train")] == ["one", "s/one"]
    assert [int(dataset.read_semantic("train", r)[0, 0]) for r in dataset.records("train")] == [1, 44]
    assert build_class_index(dataset, "val").counts("panoptic").tolist() == [[1, 0, 0], [0, 1, 0]]


def test_two_names_for_one_image_are_both_named(tmp_path: Path) -> None:
    in_folders(tmp_path / "raw", ("one", "./one"))
    with pytest.raises(ValueError, match=r"'one': .*panoptic_train2017/one\.png and .*panoptic_train2017/one\.png"):
        prepare("coco", {"root": str(tmp_path / "raw")}, tmp_path / "done", name="tiny")


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
    prepare("coco", {"root": str(root)}, tmp_path, name="coco-mini")
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
    prepare("coco", {"root": str(root)}, tmp_path / "out", name="sample")
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
