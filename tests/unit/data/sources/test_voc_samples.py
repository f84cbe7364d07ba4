"""Real images of PASCAL VOC, with the facts that are known about them from elsewhere."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from model.data.prepared.dataset import PreparedDataset
from model.data.sources.prepare import prepare
from model.data.sources.voc import NAMES

DATA = Path(os.environ.get("SEGUE_DATA", ""))
pytestmark = pytest.mark.skipif("SEGUE_DATA" not in os.environ, reason="SEGUE_DATA is not set: no photographs at hand")

INSTANCES = {
    **{"person": 24, "aeroplane": 7, "car": 6, "chair": 6, "bus": 5, "bicycle": 4, "cow": 4, "boat": 3, "bottle": 3},
    **{"horse": 3, "motorbike": 3, "train": 3, "cat": 2, "diningtable": 2, "sofa": 2, "tvmonitor": 2},
    **{"pottedplant": 1, "sheep": 1},
}


def test_the_classes_of_images_are_those_of_the_published_list(tmp_path: Path) -> None:
    sample, root = DATA / "voc2012_320", tmp_path / "raw/VOCdevkit/VOC2012"
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    for part in ("JPEGImages", "SegmentationClass"):
        (root / part).symlink_to(sample / part)
    names = (sample / "val.txt").read_text().split()
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(names[:60]))
    (root / "ImageSets/Segmentation/val.txt").write_text("\n".join(names[60:80]))
    prepare("voc", {"root": str(tmp_path / "raw"), "labels": "voc"}, tmp_path / "out", name="voc")
    dataset = PreparedDataset.open(tmp_path / "out")
    rows = (line.split() for line in (DATA / "protocol/voc2012_val_classes.txt").read_text().splitlines())
    published = {name: set(map(int, classes)) for name, *classes in rows}
    for split, number in (("train", 60), ("val", 20)):
        records = dataset.records(split)
        assert len(records) == number
        for record in records:
            assert set(np.unique(dataset.read_semantic(split, record)).tolist()) - {0, 255} == published[record.id]


def test_the_objects_of_voc_2007(tmp_path: Path) -> None:
    sample, root = DATA / "voc2007_instances", tmp_path / "raw"
    root.mkdir()
    for part in ("JPEGImages", "SegmentationClass", "SegmentationObject", "classes.txt"):
        (root / part).symlink_to(sample / part)
    (root / "train.txt").symlink_to(sample / "images.txt")
    (root / "val.txt").symlink_to(sample / "images.txt")
    parts = {"images": "JPEGImages", "labels": "SegmentationClass", "instances": "SegmentationObject"}
    options = {
        "root": str(root),
        "splits": {"train": parts, "val": parts},
        "background_label": 0,
        "ignore_label": 255,
        "things": list(NAMES),
    }
    prepare("folder", options, tmp_path / "out", name="voc2007")
    dataset = PreparedDataset.open(tmp_path / "out")
    names = {category.id: category.name for category in dataset.categories}
    objects = dataset.instance_annotations("train")["annotations"]
    assert Counter(names[one["category_id"]] for one in objects) == INSTANCES and len(objects) == 81
    for record in dataset.records("train"):
        semantic, panoptic = dataset.read_semantic("train", record), dataset.read_panoptic("train", record)
        assert np.array_equal(panoptic > 0, (semantic > 0) & (semantic < 255))
