import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.common.files import FileError
from model.data.prepared.dataset import (
    Category,
    PreparedDataset,
    PreparedDatasetError,
    write_dataset,
)
from model.data.prepared.images import read_labels, read_rgb, write_png


def test_what_is_written_is_read(shapes: PreparedDataset) -> None:
    assert (shapes.name, shapes.background_id, shapes.void_id) == ("shapes", 255, None)
    assert shapes.tasks == ("semantic", "panoptic", "instance") and shapes.splits == ("train", "val")
    assert len(shapes.records("train")) == 60 and len(shapes.records("val")) == 24
    for record in shapes.records("val"):
        assert shapes.read_image(record).shape == (record.height, record.width, 3)
        assert shapes.read_semantic("val", record).shape == (record.height, record.width)
        assert shapes.read_panoptic("val", record).shape == (record.height, record.width)


def test_instance_segmentation_learns_things_only(shapes: PreparedDataset) -> None:
    things = tuple(c.id for c in shapes.categories if c.isthing)
    assert shapes.classes("instance") == things != shapes.classes("panoptic") == shapes.category_ids


def test_panoptic_maps_agree_with_their_annotations(shapes: PreparedDataset) -> None:
    content = shapes.panoptic_annotations("val")
    assert [a["image_id"] for a in content["annotations"]] == [r.id for r in shapes.records("val")]
    things = {c.id for c in shapes.categories if c.isthing}
    for annotation in content["annotations"]:
        record = shapes.record("val", annotation["image_id"])
        ids, semantic = shapes.read_panoptic("val", record), shapes.read_semantic("val", record)
        segments = {segment["id"]: segment for segment in annotation["segments_info"]}
        assert set(np.unique(ids[ids > 0]).tolist()) <= set(segments)
        for number, segment in segments.items():
            assert set(np.unique(semantic[ids == number]).tolist()) <= {segment["category_id"]}
            if segment["category_id"] in things:
                assert segment["area"] == (ids == number).sum()


def test_a_prepared_folder_can_be_moved(shapes_folder: Path, tmp_path: Path) -> None:
    moved = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "elsewhere"))
    record = moved.records("train")[0]
    assert record.file.is_relative_to(tmp_path)
    assert moved.read_image(record).shape == (record.height, record.width, 3)


def test_loading_processes_get_a_copy(shapes: PreparedDataset) -> None:
    copy = pickle.loads(pickle.dumps(shapes))
    assert copy == shapes and copy.records("val") == shapes.records("val")


def test_problems_are_named(shapes: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"dataset\.json does not exist"):
        PreparedDataset.open(tmp_path)
    with pytest.raises(PreparedDatasetError, match="no split 'test'"):
        shapes.records("test")
    with pytest.raises(PreparedDatasetError, match=r"train\.csv: no image 'x'"):
        shapes.record("train", "x")
    with pytest.raises(PreparedDatasetError, match="no annotation for task 'depth'"):
        shapes.classes("depth")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(FileError, match="is not valid JSON"):
        PreparedDataset.open(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": 0}))
    with pytest.raises(PreparedDatasetError, match="has format 0, expected 3"):
        PreparedDataset.open(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"format": 3, "name": "x", "categories": [{"id": "1"}]}))
    with pytest.raises(
        FileError, match=r"dataset\.json: categories\.0\.id: input should be a valid integer, found '1'"
    ):
        PreparedDataset.open(tmp_path)


def test_an_edited_class_table_is_noticed(shapes_folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shapes_folder, tmp_path / "copy")
    file = copy / "dataset.json"
    whole = file.read_text()
    name = PreparedDataset.open(copy).categories[0].name
    for changed in (whole.replace(f'"{name}"', '"another"'), whole.replace('"checksum"', '"checksun"')):
        file.write_text(changed)
        with pytest.raises(
            FileError, match=r"dataset\.json: .* checksum.*; delete it to have the dataset prepared again"
        ):
            PreparedDataset.open(copy)


def test_damaged_annotations_are_noticed(shapes_folder: Path, tmp_path: Path) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    file = copy.folder / "panoptic_val.json"
    file.write_text(file.read_text().replace('"category_id":1', '"category_id":2', 1))
    with pytest.raises(PreparedDatasetError, match=r"panoptic_val\.json was damaged or edited after it was prepared"):
        copy.panoptic_annotations("val")


def test_images_and_maps_of_another_size_than_the_recorded_one_are_refused(shapes_folder: Path, tmp_path: Path) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    record = copy.records("val")[0]
    saliency = copy.folder / "saliency" / "val" / f"{record.id}.png"
    reads = {
        record.file: lambda: copy.read_image(record),
        copy.semantic_file("val", record): lambda: copy.read_semantic("val", record),
        copy.panoptic_file("val", record): lambda: copy.read_panoptic("val", record),
        saliency: lambda: copy.read_saliency("val", record),
    }
    write_png(saliency, np.zeros((record.height, record.width), np.uint8))
    size = f"{record.width} x {record.height}"
    for file, read in reads.items():
        pixels = read_rgb(file) if file == record.file or "panoptic" in file.parts else read_labels(file)
        assert read().shape[:2] == (record.height, record.width)
        write_png(file, pixels[:-8])
        other = f"{record.width} x {record.height - 8}"
        with pytest.raises(PreparedDatasetError, match=rf"{file.name} is {other}, but image .* prepared with {size}"):
            read()


def test_a_label_that_the_dataset_does_not_have_names_its_file(shapes_folder: Path, tmp_path: Path) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    record = copy.records("val")[0]
    for kind in (np.uint8, np.uint16):
        labels = copy.read_semantic("val", copy.records("val")[0]).astype(kind)
        write_png(copy.semantic_file("val", record), np.where(labels == labels[0, 0], 77, labels).astype(kind))
        with pytest.raises(
            PreparedDatasetError, match=rf"{record.id}\.png has label 77, which is neither .*: delete .*"
        ):
            copy.read_semantic("val", record)
        write_png(copy.semantic_file("val", record), labels)


def test_a_photograph_that_vanished_is_named_before_any_is_read(shapes_folder: Path, tmp_path: Path) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    records = [*copy.records("train")[:2], replace(copy.records("train")[2], file=tmp_path / "gone.png")]
    copy.check_photographs(records[:2])
    with pytest.raises(PreparedDatasetError, match=r"gone\.png does not exist, but dataset .* was prepared with it"):
        copy.check_photographs(records)


def test_a_damaged_table_names_the_line(shapes_folder: Path, tmp_path: Path) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    table = copy.folder / "val.csv"
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:2], lines[2].rsplit(",", 2)[0]]))
    with pytest.raises(PreparedDatasetError, match=r"val\.csv: line 3 is not id, file, height, width"):
        copy.records("val")


def test_a_label_map_that_vanished_is_named(shapes_folder: Path, tmp_path: Path) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    record = copy.records("val")[0]
    copy.semantic_file("val", record).unlink()
    copy.panoptic_file("val", record).write_bytes(copy.semantic_file("val", copy.records("val")[1]).read_bytes())
    with pytest.raises(PreparedDatasetError, match=f"{record.id}.png does not exist"):
        copy.read_semantic("val", record)
    with pytest.raises(PreparedDatasetError, match="is not an RGB image"):
        copy.read_panoptic("val", record)


@pytest.mark.parametrize(("second", "what"), [((1, "b"), "an id"), ((2, "a"), "a name")])
def test_ids_and_names_are_unique(tmp_path: Path, second: tuple[int, str], what: str) -> None:
    table = [Category(1, "a", False, (0, 0, 0)), Category(*second, False, (0, 0, 0))]
    with pytest.raises(PreparedDatasetError, match=f"has {what} twice"):
        write_dataset(
            tmp_path, name="x", categories=table, background_id=None, void_id=None, tasks=["semantic"], splits=["train"]
        )
