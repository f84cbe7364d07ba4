"""What a user sees whose raw data are not whole: the file and the remedy."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_layouts import SIZE, write_ade20k, write_coco

from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.images import ImageError, read_rgb, write_png
from model.data.prepared.preparation import PreparationError
from model.data.sources import registry as sources
from model.data.sources.ade20k import Ade20kError
from model.data.sources.coco import CocoError
from model.data.sources.coco_layout import LayoutError
from model.data.sources.prepare import prepare as prepare_raw

MANY = 2000


def prepare(kind: str, root: Path, folder: Path, workers: int = 1, **options: object) -> PreparedDataset:
    prepare_raw(kind, {"root": str(root), **options}, folder, name="mine", workers=workers)
    return PreparedDataset.open(folder)


@pytest.fixture
def ade(tmp_path: Path) -> Path:
    write_ade20k(tmp_path / "ade", {"training": 12, "validation": 2})
    return tmp_path / "ade"


def test_a_missing_folder_says_where_its_archives_are(tmp_path: Path) -> None:
    for kind, archive in (
        ("ade20k", "annotations_instance.tar"),
        ("coco", "train2017.zip"),
        ("voc", "SegmentationClassAug"),
    ):
        with pytest.raises(sources.SourceError, match=rf"no/where does not exist: get it .*download: true.*{archive}"):
            prepare(kind, tmp_path / "no/where", tmp_path / "out")


def test_one_corrupt_label_map_among_thousands(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    labels = np.zeros((4, 4), np.uint8)
    (root / "images").mkdir(parents=True)
    write_png(root / "images/one.png", np.zeros((4, 4, 3), np.uint8))
    write_png(root / "labels/one.png", labels)
    names = [f"i{k:05d}" for k in range(MANY)]
    for part in ("images", "labels"):
        for name in names:
            (root / part / f"{name}.png").hardlink_to(root / part / "one.png")
    (root / "train.txt").write_text("\n".join(names))
    (root / "val.txt").write_text("one")
    (root / "classes.txt").write_text("0 sky\n")
    broken = root / "labels/i01234.png"
    whole = broken.read_bytes()
    broken.unlink()
    broken.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match=r"labels/i01234\.png cannot be read as an image .*unpack it again"):
        prepare("folder", root, tmp_path / "out", workers=2)
    assert len(list((tmp_path / "out/semantic/train").iterdir())) == MANY - 1  # all others are done
    broken.write_bytes(whole)
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out/semantic/train").iterdir()}
    assert len(prepare("folder", root, tmp_path / "out").records("train")) == MANY
    assert all(file.stat().st_mtime_ns == time for file, time in times.items())  # and are not done again
    assert not list((tmp_path / "out").rglob("*.part"))


def test_several_corrupt_files_are_named_together(tmp_path: Path, ade: Path) -> None:
    for k in (2, 5):
        (ade / f"annotations/training/ADE_train_{k:08d}.png").write_bytes(b"")
    with pytest.raises(
        PreparationError, match=r"^2 of 12 images of split 'train' .*_00000002\.png .*; .*_00000005\.png "
    ):
        prepare("ade20k", ade, tmp_path / "out")
    for file in (ade / "annotations/training").iterdir():
        file.write_bytes(b"")
    with pytest.raises(PreparationError, match=r"^at least 10 of 12 images"):
        prepare("ade20k", ade, tmp_path / "new")


def test_a_half_unpacked_folder(tmp_path: Path, ade: Path) -> None:
    for k in range(5, 13):
        (ade / f"annotations/training/ADE_train_{k:08d}.png").unlink()
    with pytest.raises(
        Ade20kError,
        match=r"annotations/training/ADE_train_00000005\.png does not exist, but .*annotations_instance/.*_00000005\.png does "
        r"\(8 of 12 there are alone\): .*unpacked only in part, unpack the archive again",
    ):
        prepare("ade20k", ade, tmp_path / "out")
    with pytest.raises(Ade20kError, match=r"but .*images/training/ADE_train_00000005\.jpg does \(8 of 12"):
        prepare("ade20k", ade, tmp_path / "out", instances=False)


def test_photographs_that_are_missing(tmp_path: Path, ade: Path) -> None:
    (ade / "images/training/ADE_train_00000012.jpg").unlink()
    with pytest.raises(Ade20kError, match=r"images/training/ADE_train_00000012\.jpg does not exist, but .*annotations"):
        prepare("ade20k", ade, tmp_path / "out")


def test_an_instance_map_without_its_scene_parsing_map(tmp_path: Path, ade: Path) -> None:
    for part in ("images", "annotations"):
        next((ade / part / "training").glob("ADE_train_00000003*")).unlink()
    with pytest.raises(
        Ade20kError,
        match=r"annotations/training/ADE_train_00000003\.png does not exist, but .*annotations_instance/training/"
        r"ADE_train_00000003\.png does \(1 of 12 there are alone\): .*unpack the archive again",
    ):
        prepare("ade20k", ade, tmp_path / "out")


def test_a_part_is_a_warning_or_an_error(tmp_path: Path, ade: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare("ade20k", ade, tmp_path / "out")
    warning = capsys.readouterr().err
    assert "warning: dataset 'mine'" in warning and "images/training has 12 images, officially 20,210" in warning
    with pytest.raises(
        sources.SourceError, match=r"is not complete: .*images/validation has 2 images, officially 2,000\. Unp"
    ):
        prepare("ade20k", ade, tmp_path / "out", complete=True)
    assert (tmp_path / "out/dataset.json").exists()  # and nothing was thrown away


def test_published_photographs_in_cmyk_or_grey_survive(tmp_path: Path, ade: Path) -> None:
    file = ade / "images/training/ADE_train_00000001.jpg"
    grey = np.full(SIZE, 90, np.uint8)
    Image.fromarray(grey).convert("CMYK").save(file, quality=100)
    Image.fromarray(grey).save(ade / "images/training/ADE_train_00000002.jpg", quality=100)
    with pytest.raises(ImageError, match="is a CMYK image"):
        read_rgb(file)
    dataset = prepare("ade20k", ade, tmp_path / "out")
    first, second, *_ = dataset.records("train")
    assert first.file == tmp_path / "out/images/train/ADE_train_00000001.png"
    for record in (first, second):
        assert np.abs(dataset.read_image(record).astype(int) - 90).max() <= 2
    assert (first.height, first.width) == SIZE


def test_a_coco_folder_that_is_not_whole(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    write_coco(root, {"train2017": 3, "val2017": 1})
    (root / "panoptic_train2017/000000000002.png").unlink()
    with pytest.raises(
        CocoError, match=r"panoptic_train2017/000000000002\.png does not exist, but .*\(1 of 3 are missing\)"
    ):
        prepare("coco", root, tmp_path / "out")
    annotation = root / "annotations/panoptic_val2017.json"
    annotation.write_text(annotation.read_text()[:-40])
    write_coco(root, {"train2017": 3})
    with pytest.raises(LayoutError, match=r"panoptic_val2017\.json is not valid JSON .*: unpack its archive again"):
        prepare("coco", root, tmp_path / "out")


def test_an_unknown_class(tmp_path: Path) -> None:
    root = tmp_path / "coco"
    write_coco(root, {"train2017": 1, "val2017": 1})
    file = root / "annotations/panoptic_train2017.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "categories": content["categories"][:1]}))
    with pytest.raises(
        CocoError, match=r"000000000001\.png: segment 258 has class 193, which is not in the class table"
    ):
        prepare("coco", root, tmp_path / "out")


def test_official_objects_of_coco_overlap_and_keep_their_numbers(tmp_path: Path) -> None:
    write_coco(tmp_path / "coco", {"train2017": 2, "val2017": 1})
    dataset = prepare("coco", tmp_path / "coco", tmp_path / "out", instances="official")
    objects = dataset.instance_annotations("train")["annotations"]
    assert [(one["id"], one["category_id"], one["area"], one["bbox"]) for one in objects] == [
        (1, 1, 24.5, [2, 2, 6, 4]),
        (2, 1, 24.5, [2, 2, 6, 4]),
    ]
    assert objects[0]["segmentation"]["size"] == list(SIZE)
