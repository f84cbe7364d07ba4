"""Preparation of ADE20K's raw layout, on a hand-made folder of four classes: wall, lamp (thing), floor, cup (thing)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.images import ImageError, write_png
from model.data.sources.ade20k import Ade20k, Ade20kError, packaged_table, read_class_table
from model.data.sources.completeness import AmbiguousError

LABELS = np.array(
    [
        [1, 1, 1, 3, 3, 0],
        [1, 2, 2, 3, 3, 0],
        [1, 2, 2, 4, 3, 2],
        [1, 1, 4, 4, 3, 2],
    ],
    dtype=np.uint8,
)
NUMBERS = np.array(
    [
        [0, 0, 0, 0, 0, 0],
        [0, 9, 9, 0, 0, 0],
        [0, 9, 9, 2, 0, 0],
        [0, 0, 2, 2, 0, 0],
    ],
    dtype=np.uint8,
)
CLASSES = np.where(NUMBERS == 9, 1, np.where(NUMBERS == 2, 2, 0)).astype(np.uint8)


def write_raw(root: Path, labels: np.ndarray = LABELS, classes: np.ndarray = CLASSES) -> Ade20k:
    names = ["wall, side", "lamp", "floor, flooring", "cup"]
    rows = [f"{k}\t0.1\t1\t1\t{name}" for k, name in enumerate(names, start=1)]
    root.mkdir(parents=True, exist_ok=True)
    (root / "objectInfo4.txt").write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *rows]) + "\n")
    (root / "instance_classes.csv").write_text("instance,label\n1,2\n2,4\n")
    for split, stem in (("training", "ADE_train_1"), ("validation", "ADE_val_1")):
        photograph = np.zeros((*LABELS.shape, 3), np.uint8)
        write_png(root / "images" / split / f"{stem}.png", photograph)
        write_png(root / "annotations" / split / f"{stem}.png", labels)
        instances = np.stack([classes, NUMBERS, np.zeros_like(NUMBERS)], axis=-1)
        write_png(root / "annotations_instance" / split / f"{stem}.png", instances)
    return Ade20k(str(root))


def prepare(tmp_path: Path, source: Ade20k) -> PreparedDataset:
    source.prepare(tmp_path / "prepared", "tiny", 1)
    return PreparedDataset.open(tmp_path / "prepared")


def test_semantic_labels_are_shifted_in_eight_bits(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, write_raw(tmp_path / "raw"))
    record = dataset.records("train")[0]
    labels = dataset.read_semantic("train", record)
    assert labels.dtype == np.uint8 and (labels == LABELS - np.uint8(1)).all() and labels[0, 5] == 255
    assert [c.name for c in dataset.categories] == ["wall", "lamp", "floor", "cup"]
    assert [c.isthing for c in dataset.categories] == [False, True, False, True]


def test_stuff_first_then_instances_over_it(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, write_raw(tmp_path / "raw"))
    record = dataset.records("train")[0]
    (annotation,) = dataset.panoptic_annotations("train")["annotations"]
    ids = dataset.read_panoptic("train", record)
    assert annotation["image_id"] == "ADE_train_1"
    assert annotation["segments_info"] == [
        {"id": 1, "category_id": 0, "area": 7, "bbox": [0, 0, 3, 4], "iscrowd": 0},
        {"id": 2, "category_id": 2, "area": 6, "bbox": [3, 0, 2, 4], "iscrowd": 0},
        {"id": 3, "category_id": 3, "area": 3, "bbox": [2, 2, 2, 2], "iscrowd": 0},  # instance 2 before instance 9
        {"id": 4, "category_id": 1, "area": 4, "bbox": [1, 1, 2, 2], "iscrowd": 0},
    ]
    assert ids.tolist() == [[1, 1, 1, 2, 2, 0], [1, 4, 4, 2, 2, 0], [1, 4, 4, 3, 2, 0], [1, 1, 3, 3, 2, 0]]
    assert (ids[2:, 5] == 0).all()  # a lamp without an instance stays void


def test_a_stuff_segment_counts_covered_pixels_and_may_be_covered_altogether(tmp_path: Path) -> None:
    labels = np.where(NUMBERS == 9, 3, np.where(LABELS == 3, 1, LABELS)).astype(np.uint8)  # floor below the lamp only
    dataset = prepare(tmp_path, write_raw(tmp_path / "raw", labels=labels))
    (annotation,) = dataset.panoptic_annotations("train")["annotations"]
    floor = annotation["segments_info"][1]
    assert (floor["category_id"], floor["area"]) == (2, 4)
    assert not (dataset.read_panoptic("train", dataset.records("train")[0]) == floor["id"]).any()


def test_instances_in_coco_form(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, write_raw(tmp_path / "raw"))
    content = dataset.instance_annotations("val")
    assert [c["id"] for c in content["categories"]] == [1, 3]
    assert [(a["id"], a["image_id"], a["category_id"], a["area"], a["bbox"]) for a in content["annotations"]] == [
        (1, "ADE_val_1", 3, 3, [2, 2, 2, 2]),
        (2, "ADE_val_1", 1, 4, [1, 1, 2, 2]),
    ]
    assert (coco_mask.decode(content["annotations"][1]["segmentation"]) == (NUMBERS == 9)).all()


def test_without_instance_maps_the_dataset_is_semantic(tmp_path: Path) -> None:
    source = Ade20k(write_raw(tmp_path / "raw").root, instances=False)
    dataset = prepare(tmp_path, source)
    assert dataset.tasks == ("semantic",)
    assert not (tmp_path / "prepared" / "panoptic_train.json").exists()


def test_the_manifest_counts(tmp_path: Path) -> None:
    prepare(tmp_path, write_raw(tmp_path / "raw"))
    content = json.loads((tmp_path / "prepared" / "manifest.json").read_text())["splits"]
    assert (content["train"]["images"], content["train"]["segments"], content["train"]["instances"]) == (1, 4, 2)
    assert set(content["train"]["files"]) == {"semantic/train/ADE_train_1.png", "panoptic/train/ADE_train_1.png"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": LABELS[:3]}, r"annotations.training.ADE_train_1\.png is \(6, 3\), its image .* is \(6, 4\)"),
        ({"labels": LABELS + np.uint8(1)}, r"ADE_train_1\.png has label 5, but the class table ends at 4"),
        ({"classes": CLASSES * 0}, r"instance 2 has class 0, which is not among the 2 instance classes"),
        (
            {"classes": np.where(LABELS == 2, 2, CLASSES).astype(np.uint8)[:, ::-1]},
            r"instance \d has classes \[.*, .*\]",
        ),
    ],
)
def test_broken_annotations_name_the_file(tmp_path: Path, changes: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(Ade20kError, match=message):
        prepare(tmp_path, write_raw(tmp_path / "raw", **changes))


def test_broken_folders_name_the_file(tmp_path: Path) -> None:
    source = write_raw(tmp_path / "raw")
    image = tmp_path / "raw/images/training/ADE_train_1.png"
    label = tmp_path / "raw/annotations/training/ADE_train_1.png"
    label.rename(tmp_path / "kept.png")
    with pytest.raises(Ade20kError, match=r"annotations.training.ADE_train_1\.png does not exist"):
        prepare(tmp_path, source)
    (tmp_path / "kept.png").rename(label)
    image.with_suffix(".jpg").write_bytes(image.read_bytes())
    with pytest.raises(AmbiguousError, match=r"two files named 'ADE_train_1' \(ADE_train_1.jpg, ADE_train_1.png\)"):
        prepare(tmp_path, source)
    image.unlink()
    image.with_suffix(".jpg").write_bytes(b"\xff\xd8 cut")
    with pytest.raises(ImageError, match=r"ADE_train_1\.jpg cannot be read"):
        prepare(tmp_path, source)
    (tmp_path / "raw/objectInfo4.txt").rename(tmp_path / "raw/none.txt")
    with pytest.raises(Ade20kError, match=r"0 class tables"):
        read_class_table(tmp_path / "raw")


def test_what_is_missing_is_said_before_anything_is_done(tmp_path: Path) -> None:
    assert "does not exist" in Ade20k(str(tmp_path / "no")).missing()[0]
    (tmp_path / "images/training").mkdir(parents=True)
    assert [text.split(" ")[0] for text in Ade20k(str(tmp_path)).missing()] == [
        str(tmp_path / "annotations"),
        str(tmp_path / "annotations_instance"),
    ]
    assert Ade20k(write_raw(tmp_path / "raw").root).missing() == []


def test_packaged_facts() -> None:
    table = packaged_table()
    things = [c.id for c in table.categories if c.isthing]
    assert len(table.names) == 150 == len(set(table.names)) and len(things) == 100
    assert sorted(table.instance_labels) == list(range(1, 101))
    assert table.names[0] == "wall" and table.names[149] == "flag"
    by_block = [sum(start <= thing < start + 50 for thing in things) for start in (0, 50, 100)]
    assert by_block == [29, 35, 36]  # as published for the three blocks of 50 classes


def test_class_orders_belong_to_the_150_classes(tmp_path: Path) -> None:
    source = Ade20k("nowhere")
    assert source.orders("semantic")["b"][:3] == (0, 8, 13) and source.orders("panoptic")["b"][:3] == (73, 18, 118)
    assert source.orders("instance") == {}


DATA = os.environ.get("SEGUE_DATA")


@pytest.mark.skipif(not DATA, reason="SEGUE_DATA is not set: the sample of ADE20K is not at hand")
def test_the_real_sample(tmp_path: Path) -> None:
    source = Ade20k(f"{DATA}/ade20k_sample", instances=False)
    assert source.missing() == []
    dataset = prepare(tmp_path, source)
    assert dataset.splits == ("val",)
    assert tuple(c.name for c in dataset.categories) == packaged_table().names
    expected = {
        "ADE_val_00000001": {1, 2, 3, 5, 7, 10, 18},
        "ADE_val_00000002": {1, 2, 3, 5, 14, 18},
        "ADE_val_00000003": {1, 2, 3, 5, 7, 12, 21, 44, 81, 88, 97, 103},
    }
    for record in dataset.records("val"):
        present = set(np.unique(dataset.read_semantic("val", record)).tolist()) - {255}
        assert {label + 1 for label in present} == expected.pop(record.id)
    assert not expected
