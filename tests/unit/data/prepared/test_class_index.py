from pathlib import Path

import numpy as np
import pytest

from model.data.prepared.class_index import ClassIndex, ClassIndexError, build_class_index
from model.data.prepared.dataset import (
    Category,
    ImageRecord,
    PreparedDataset,
    PreparedDatasetError,
    write_dataset,
    write_records,
)
from model.data.prepared.images import read_labels, write_png


def test_counts_agree_with_the_maps(shapes: PreparedDataset) -> None:
    index = build_class_index(shapes, "train")
    assert index.segments is not None and index.instances is not None
    assert index.image_ids == tuple(record.id for record in shapes.records("train"))
    for row in (0, 17, 59):
        record = shapes.records("train")[row]
        labels = read_labels(shapes.semantic_file("train", record))
        assert index.pixels[row].tolist() == [int((labels == c).sum()) for c in shapes.category_ids]
    stuff = [column for column, c in enumerate(shapes.categories) if not c.isthing]
    things = [column for column, c in enumerate(shapes.categories) if c.isthing]
    assert (index.segments[:, stuff] == (index.pixels[:, stuff] > 0)).all()
    assert (index.segments[:, things] == index.instances[:, things]).all()
    assert index.instances[:, stuff].sum() == 0 and index.instances.max() > 1
    assert (index.counts("semantic") == (index.pixels > 0)).all()
    assert index.counts("panoptic") is index.segments and index.counts("instance") is index.instances


def test_workers_do_not_matter_and_files_are_equal(shapes: PreparedDataset, tmp_path: Path) -> None:
    build_class_index(shapes, "val").save(tmp_path / "one.npz")
    build_class_index(shapes, "val", workers=3).save(tmp_path / "three.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "three.npz").read_bytes()
    loaded, built = ClassIndex.load(tmp_path / "one.npz"), build_class_index(shapes, "val")
    assert (loaded.dataset, loaded.split, loaded.image_ids, loaded.categories) == (
        built.dataset,
        built.split,
        built.image_ids,
        built.categories,
    )
    for name in ("pixels", "segments", "instances"):
        assert np.array_equal(getattr(loaded, name), getattr(built, name))


def prepared(folder: Path, labels: np.ndarray, size: tuple[int, int]) -> PreparedDataset:
    write_png(folder / "semantic" / "train" / "a.png", labels)
    write_records(folder, "train", [ImageRecord("a", folder / "a.png", *size)])
    write_dataset(
        folder,
        name="tiny",
        categories=[Category(1, "one", False, (0, 0, 0)), Category(300, "far", True, (9, 9, 9))],
        background_id=0,
        void_id=None,
        tasks=["semantic"],
        splits=["train"],
    )
    return PreparedDataset.open(folder)


def test_sixteen_bit_labels(tmp_path: Path) -> None:
    index = build_class_index(prepared(tmp_path, np.array([[1, 300, 300, 0]], np.uint16), (1, 4)), "train")
    assert index.pixels.tolist() == [[1, 2]]
    with pytest.raises(ClassIndexError, match="no annotation for task 'instance'"):
        index.counts("instance")


def test_bad_maps_are_named(tmp_path: Path) -> None:
    with pytest.raises(PreparedDatasetError, match=r"a\.png has label 7, which is neither .* delete .*dataset\.json"):
        build_class_index(prepared(tmp_path / "x", np.array([[1, 7]], np.uint8), (1, 2)), "train")
    with pytest.raises(PreparedDatasetError, match=r"a\.png is 2 x 1, but image 'a' .* with 2 x 2"):
        build_class_index(prepared(tmp_path / "y", np.array([[1, 1]], np.uint8), (2, 2)), "train")


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ClassIndexError, match="does not exist"):
        ClassIndex.load(tmp_path / "no.npz")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    with pytest.raises(ClassIndexError, match=r"bad\.npz is not a class index"):
        ClassIndex.load(tmp_path / "bad.npz")


def test_unknown_images_are_named(shapes: PreparedDataset) -> None:
    with pytest.raises(ClassIndexError, match="no image 'x'"):
        build_class_index(shapes, "val").rows(["x"])
