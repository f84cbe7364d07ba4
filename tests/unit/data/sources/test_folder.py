import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from model.data.prepared.class_index import build_class_index
from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.images import write_png
from model.data.sources import registry as sources
from model.data.sources.folder import Folder, FolderError
from model.data.sources.prepare import prepare as prepare_raw
from model.scenario import Scenario
from model.splits.selection import select_images

LABELS = np.array([[0, 1, 2], [2, 2, 11]], dtype=np.uint8)


def write_folder(root: Path, labels: np.ndarray = LABELS, instances: np.ndarray | None = None) -> Path:
    for split in ("train", "val"):
        write_png(root / "images" / f"{split}0.png", np.zeros((*LABELS.shape, 3), np.uint8))
        write_png(root / "labels" / f"{split}0.png", labels)
        if instances is not None:
            write_png(root / "instances" / f"{split}0.png", instances)
        (root / f"{split}.txt").write_text(f"{split}0\n")
    (root / "classes.txt").write_text("0\tsky\n1\tcar door\n2\troad\n11\tunlabelled\n")
    return root


def prepare(tmp_path: Path, **options: Any) -> PreparedDataset:
    prepare_raw("folder", options, tmp_path / "out", name="mine")
    return PreparedDataset.open(tmp_path / "out")


def test_labels_are_shifted_and_the_ignored_one_becomes_void(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, root=str(write_folder(tmp_path / "raw")), label_offset=1, ignore_label=11)
    assert [(c.id, c.name) for c in dataset.categories] == [(1, "sky"), (2, "car door"), (3, "road")]
    assert (dataset.background_id, dataset.void_id, dataset.tasks) == (None, 255, ("semantic",))
    labels = dataset.read_semantic("train", dataset.records("train")[0])
    assert labels.tolist() == [[1, 2, 3], [3, 3, 255]]


def test_background_is_no_class(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, root=str(write_folder(tmp_path / "raw")), background_label=0, ignore_label=11)
    assert (dataset.background_id, dataset.category_ids) == (0, (1, 2))
    index = build_class_index(dataset, "val")
    assert index.pixels.tolist() == [[1, 3]]


@pytest.mark.parametrize("classes", [["sky", "car", "road"], {0: "sky", 1: "car", 2: "road"}])
def test_classes_in_the_configuration(tmp_path: Path, classes: Any) -> None:
    dataset = prepare(tmp_path, root=str(write_folder(tmp_path / "raw")), classes=classes, ignore_label=11)
    assert [c.name for c in dataset.categories] == ["sky", "car", "road"]


def test_instances_make_it_panoptic(tmp_path: Path) -> None:
    instances = np.array([[0, 700, 0], [3, 3, 0]], dtype=np.uint16)
    root = write_folder(tmp_path / "raw", instances=instances)
    splits = {split: {"instances": "instances"} for split in ("train", "val")}
    dataset = prepare(tmp_path, root=str(root), splits=splits, things=["road", "car door"], ignore_label=11)
    (annotation,) = dataset.panoptic_annotations("train")["annotations"]
    assert [(s["category_id"], s["area"]) for s in annotation["segments_info"]] == [(0, 1), (2, 2), (1, 1)]
    assert dataset.read_panoptic("train", dataset.records("train")[0]).tolist() == [[1, 3, 0], [2, 2, 0]]
    assert [c["name"] for c in dataset.instance_annotations("val")["categories"]] == ["car door", "road"]


def test_instances_of_no_or_several_classes_are_named(tmp_path: Path) -> None:
    splits = {split: {"instances": "instances"} for split in ("train", "val")}
    root = write_folder(tmp_path / "raw", instances=np.array([[0, 1, 1], [0, 0, 0]], dtype=np.uint8))
    with pytest.raises(FolderError, match=r"train0\.png: instance 1 covers labels \[1, 2\]"):
        prepare(tmp_path, root=str(root), splits=splits, things=["road", "car door"], ignore_label=11)
    with pytest.raises(FolderError, match="'things' has to name"):
        Folder(str(root), splits=splits)
    with pytest.raises(FolderError, match=r"only \['train'\] have instances"):
        Folder(str(root), splits={"train": {"instances": "i"}, "val": {}})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"train0\.png has label 11, which is neither"),
        ({"classes": ["sky", "car"], "ignore_label": 11}, r"train0\.png has label 2, which is neither"),
        ({"classes": "none.txt"}, r"none\.txt does not exist"),
        ({"label_offset": -1, "ignore_label": 11}, "out of 0…65535"),
        ({"label_offset": 253, "ignore_label": 11}, "class 'road' and the ignored label would both be 255"),
        ({"things": ["bird"], "ignore_label": 11}, "things names 'bird'"),
        ({"splits": {"train": {"image": "x"}}}, r"splits\.train has no key 'image'"),
        ({"splits": {"train": {"images": "elsewhere"}}}, "elsewhere does not exist"),
    ],
)
def test_options_that_do_not_fit_are_named(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    root = write_folder(tmp_path / "raw")
    if not options:
        (root / "classes.txt").write_text("sky\ncar\nroad\n")
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, root=str(root), **options)


def test_lists_that_do_not_fit_are_named(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "raw")
    options: dict[str, Any] = {"root": str(root), "ignore_label": 11}
    for text, message in (("", "names no image"), ("a\na", "names 'a' twice"), ("b", r"b\(\.jpg")):
        (root / "val.txt").write_text(text)
        with pytest.raises(FolderError, match=message):
            prepare(tmp_path, **options)
    (root / "classes.txt").write_text("0 sky\nroad\n")
    with pytest.raises(FolderError, match="line 2 has no id"):
        prepare(tmp_path, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ignore_label": 65536}, "ignore_label has 65536, but labels of 16-bit maps are 0…65535"),
        ({"background_label": 10**9}, "background_label has 1000000000, but labels"),
        ({"ignore_label": -1}, "ignore_label has -1, but labels"),
        ({"classes": {70000: "sky"}}, "the class list has 70000, but labels"),
        ({"background_label": 0, "ignore_label": 11, "label_offset": -1}, "moves classes out of 0…65535"),
        ({"splits": {"../train": {}}}, r"'\.\./train' is no name of a split"),
        ({"splits": {"/tmp/train": {}}}, "'/tmp/train' is no name of a split"),
    ],
)
def test_labels_and_splits_that_cannot_be_are_named_while_planning(
    tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    root = write_folder(tmp_path / "raw")
    with pytest.raises(ValueError, match=message):
        sources.categories("folder", {"root": str(root), **options})


def camera(tmp_path: Path) -> Path:
    """What cameras and their owners write: capitals, blanks, folders, and a mark at the beginning of text."""
    root = write_folder(tmp_path / "raw")
    (root / "images/train0.png").rename(root / "images/DSC 0001.PNG")
    (root / "labels/train0.png").rename(root / "labels/DSC 0001.png")
    for part in ("images", "labels"):
        (root / part / "my trip").mkdir()
        (root / part / "val0.png").rename(root / part / "my trip" / "val0.png")
    for file, text in (("train.txt", "DSC 0001\r\n"), ("val.txt", "./my trip/val0\n")):
        (root / file).write_bytes(b"\xef\xbb\xbf" + text.encode())
    (root / "classes.txt").write_bytes(b"\xef\xbb\xbf" + (root / "classes.txt").read_bytes())
    return root


def test_files_as_cameras_write_them(tmp_path: Path) -> None:
    dataset = prepare(tmp_path, root=str(camera(tmp_path)), ignore_label=11)
    assert [record.id for record in dataset.records("train")] == ["DSC 0001"]
    assert [record.id for record in dataset.records("val")] == ["my trip/val0"]
    assert dataset.categories[0].name == "sky"
    for split in ("train", "val"):
        (record,) = dataset.records(split)
        assert dataset.read_semantic(split, record).shape == dataset.read_image(record).shape[:2]


@pytest.mark.parametrize("name", ["one.PNG", "one.jpg", "one.JPEG"])
def test_two_photographs_of_one_name_are_both_named(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path / "raw")
    (root / "images/train0.png").rename(root / "images/one.png")
    (root / "images" / name).write_bytes(b"")
    (root / "labels/train0.png").rename(root / "labels/one.png")
    (root / "train.txt").write_text("one")
    with pytest.raises(ValueError, match="has two files named 'one'"):
        prepare(tmp_path, root=str(root), ignore_label=11)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("train0\n./train0", r"train\.txt names './train0', which is 'train0', twice: remove a line"),
        ("../labels/train0", r"train\.txt: the name '\.\./labels/train0' leads out of the folder"),
        ("/etc/passwd", "leads out of the folder"),
        ("a/../../../x", "leads out of the folder"),
    ],
)
def test_names_that_repeat_or_lead_out_are_refused_before_anything_is_written(
    tmp_path: Path, lines: str, message: str
) -> None:
    root = write_folder(tmp_path / "raw")
    (root / "train.txt").write_text(lines)
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path, root=str(root), ignore_label=11)
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize("name", ["train.txt", "classes.txt"])
def test_text_that_is_not_utf8_is_named(tmp_path: Path, name: str) -> None:
    root = write_folder(tmp_path / "raw")
    (root / name).write_bytes("0 sky\n1 café".encode("latin-1"))
    with pytest.raises(ValueError, match=rf"{name} is not UTF-8 text \(line 2, byte 0xe9\): save it as UTF-8"):
        prepare(tmp_path, root=str(root), ignore_label=11)


def turned(root: Path, orientation: int) -> None:
    """The first photograph as a camera stores it that was held otherwise; what viewers show stays the same."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    back = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90, 8: Image.Transpose.ROTATE_270}
    shown = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 14)
    shown.transpose(back[orientation]).save(root / "images/train0.png", exif=exif)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_photographs_are_turned_as_their_metadata_say(
    tmp_path: Path, orientation: int, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_folder(tmp_path / "raw")
    turned(root, orientation)
    dataset = prepare(tmp_path, root=str(root), ignore_label=11)
    (record,) = dataset.records("train")
    assert dataset.read_image(record).ravel().tolist() == [14 * k for k in range(18)]
    assert (record.height, record.width) == dataset.read_semantic("train", record).shape == (2, 3)
    said = capsys.readouterr().err
    assert "note: dataset 'mine': 1 photographs are rotated as their metadata say, such as " in said


def test_a_map_drawn_on_the_stored_image_is_refused_where_its_size_says_so(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "raw")
    turned(root, 6)
    write_png(root / "labels/train0.png", np.zeros((3, 2), np.uint8))
    message = r"train0\.png is \(2, 3\), its image .* is \(3, 2\) as its metadata rotate it, .* remove the orientation"
    with pytest.raises(FolderError, match=message):
        prepare(tmp_path, root=str(root), ignore_label=11)


DATA = os.environ.get("SEGUE_DATA")
real = pytest.mark.skipif(not DATA, reason="SEGUE_DATA is not set: real data are not at hand")


@real
def test_voc_sample_gives_the_counts_of_its_description(tmp_path: Path) -> None:
    parts = {"images": "JPEGImages", "labels": "SegmentationClass"}
    dataset = prepare(
        tmp_path,
        root=f"{DATA}/voc2012_320",
        splits={"train": parts},
        background_label=0,
        ignore_label=255,
    )
    index = build_class_index(dataset, "train")
    per_class = [45, 50, 53, 41, 61, 39, 67, 67, 70, 41, 38, 75, 46, 47, 261, 52, 33, 51, 49, 44]
    assert index.presence("semantic").sum(axis=0).tolist() == per_class
    expected = {
        "15-5": ((706, 208), (617, 208)),
        "15-1": ((706, 52, 33, 51, 49, 44), (617, 37, 33, 45, 49, 44)),
        "10-10": ((484, 525), (300, 525)),
    }
    for name, (overlapped, disjoint) in expected.items():
        scenario = Scenario.from_name(name, index.categories)
        steps = [scenario.step(t) for t in range(len(scenario))]
        for setting, counts in (("overlapped", overlapped), ("disjoint", disjoint)):
            assert tuple(len(select_images(index, step, "semantic", setting)) for step in steps) == counts


@real
def test_camvid_sample_gives_the_counts_of_its_description(tmp_path: Path) -> None:
    splits = {split: {"images": f"{split}/images", "labels": f"{split}/labels"} for split in ("train", "val")}
    dataset = prepare(tmp_path, root=f"{DATA}/camvid11", splits=splits, label_offset=1, ignore_label=11)
    assert dataset.category_ids == tuple(range(1, 12))
    train, val = (
        build_class_index(dataset, split).presence("semantic").sum(axis=0).tolist() for split in dataset.splits
    )
    assert train == [366, 365, 366, 367, 349, 319, 351, 173, 360, 317, 201]
    assert val == [101] * 11
