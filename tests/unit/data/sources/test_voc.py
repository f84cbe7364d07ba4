from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_layouts import blocks, write_photograph, write_voc

from model.data.prepared.dataset import PreparedDataset
from model.data.prepared.images import ImageError, read_rgb, write_png
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare
from model.data.sources.voc import Voc, VocError, read_sbd


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    write_voc(tmp_path / "VOCdevkit/VOC2012", train=3, extra=4, val=2)
    return tmp_path / "VOCdevkit/VOC2012"


def prepared(root: Path, folder: Path, **options: object) -> PreparedDataset:
    prepare("voc", {"root": str(root), **options}, folder, name="voc")
    return PreparedDataset.open(folder)


@pytest.mark.parametrize(("labels", "images"), [("aug", 7), ("sbd", 7), ("voc", 3)])
def test_every_source_of_labels_gives_the_same_maps(tmp_path: Path, raw: Path, labels: str, images: int) -> None:
    dataset = prepared(raw, tmp_path / "out", labels=labels)
    assert (len(dataset.records("train")), len(dataset.records("val"))) == (images, 2)
    for split in dataset.splits:
        for record in dataset.records(split):
            possible = (0, 1, 15, 20) if record.id.startswith("2009") else (0, 1, 15, 20, 255)
            assert np.array_equal(dataset.read_semantic(split, record), blocks(record.id, possible))
    assert (dataset.background_id, dataset.void_id, dataset.background_is_labelled) == (0, 255, True)
    assert dataset.category_ids == tuple(range(1, 21)) and dataset.tasks == ("semantic",)


def test_a_long_side_scales_photographs_and_labels_together(tmp_path: Path, raw: Path) -> None:
    full = prepared(raw, tmp_path / "full", labels="voc")
    half = prepared(raw, tmp_path / "half", labels="voc", long_side=32)
    for split in full.splits:
        for large, small in zip(full.records(split), half.records(split), strict=True):
            side = max(large.height, large.width)
            assert max(small.height, small.width) == min(32, side)
            assert small.height == round(large.height * min(32, side) / side)
            image, labels = read_rgb(small.file), half.read_semantic(split, small)
            assert image.shape[:2] == labels.shape == (small.height, small.width)
            assert set(np.unique(labels)) <= set(np.unique(full.read_semantic(split, large)))
    unscaled = prepared(raw, tmp_path / "large", labels="voc", long_side=4096)
    assert [r.file for r in unscaled.records("val")] == [r.file for r in full.records("val")], (
        "nothing is enlarged or written"
    )


def test_the_laptop_subset_is_named_image_by_image(tmp_path: Path) -> None:
    source = Voc(str(tmp_path / "VOC"), labels="voc", subset="laptop", download=True)
    train, val = source.names("train"), source.names("val")
    assert (len(train), len(val), len({*train, *val})) == (825, 275, 1100)
    assert "voc2012" in source.downloads()
    for folder in ("JPEGImages", "SegmentationClass"):
        (tmp_path / "VOC" / folder).mkdir(parents=True)
    assert source.missing() == [] and source.downloads() == {}, "ImageSets is not needed"
    with pytest.raises(VocError, match=r"JPEGImages/2007_.*\.jpg does not exist, .*\(825 of 825 are missing\)"):
        source.list_images("train")
    (tmp_path / "VOC/archives").mkdir()  # what Segue has downloaded, or begun to
    assert "voc2012" in source.downloads()
    with pytest.raises(VocError, match="write labels: voc instead of aug"):
        Voc(str(tmp_path), subset="laptop")


def test_a_folder_above_is_as_good(tmp_path: Path, raw: Path) -> None:
    assert Voc(str(tmp_path)).missing() == [] and Voc(str(tmp_path / "VOCdevkit")).missing() == []
    assert len(Voc(str(tmp_path)).list_images("train")) == 7


def test_a_list_of_the_augmented_set_is_followed_whatever_its_order(raw: Path) -> None:
    wanted = ["2009_000003", "2007_000001", "2009_000000"]
    (raw / "ImageSets/Segmentation/train_aug.txt").write_text("\n".join(wanted))
    assert Voc(str(raw)).names("train") == sorted(wanted)
    (raw / "ImageSets/Segmentation/train_aug.txt").write_text("\n")
    with pytest.raises(VocError, match=r"train_aug\.txt names no image"):
        Voc(str(raw)).names("train")


def test_saliency_of_training_images(tmp_path: Path, raw: Path) -> None:
    for name in Voc(str(raw)).names("train"):
        write_png(raw / "saliency_map" / f"{name}.png", blocks(f"{name}s", (0, 1)))
    dataset = prepared(raw, tmp_path / "out", saliency="saliency_map")
    for record in dataset.records("train"):
        assert np.array_equal(dataset.read_saliency("train", record), blocks(f"{record.id}s", (0, 1)) > 0)
    (raw / "saliency_map/2009_000001.png").unlink()
    with pytest.raises(VocError, match=r"saliency_map/2009_000001\.png does not exist,.*\(1 of 7 are missing\)"):
        Voc(str(raw), saliency="saliency_map").list_images("train")


def test_parts_and_halves_are_named(tmp_path: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared(raw, tmp_path / "out")
    assert "SegmentationClassAug has 7 images, officially 10,582" in capsys.readouterr().err
    with pytest.raises(
        sources.SourceError, match=r"is not complete: .*val\.txt has 2 images, officially 1,449\. Unpack its"
    ):
        prepared(raw, tmp_path / "out", complete=True)
    (raw / "JPEGImages/2009_000002.jpg").unlink()
    with pytest.raises(VocError, match=r"JPEGImages/2009_000002\.jpg does not exist.*\(1 of 7 are missing\): unpack"):
        prepared(raw, tmp_path / "out")
    assert "SegmentationClassAug" in Voc(str(tmp_path / "none")).missing()[0]


def test_broken_files_are_named(tmp_path: Path, raw: Path) -> None:
    file = raw / "SegmentationClassAug/2009_000000.png"
    Image.fromarray(blocks("x", (0, 1, 21))).save(file)
    with pytest.raises(VocError, match=r"2009_000000\.png has label 21; VOC has 0 \(background\), 1…20 and 255"):
        prepared(raw, tmp_path / "out")
    Image.fromarray(blocks("x", (0, 1))[:8]).save(file)
    with pytest.raises(VocError, match=r"2009_000000\.png is \(16, 8\), its image .* is \(16, 12\)"):
        prepared(raw, tmp_path / "out")
    mat = raw / "sbd/cls/2009_000000.mat"
    mat.write_bytes(mat.read_bytes()[:300])
    for damaged in (mat, file):
        with pytest.raises(ImageError, match=rf"{damaged.name} is not one of SBD's label files"):
            read_sbd(damaged)
    write_photograph(raw / "JPEGImages/2007_000000.jpg")
    photograph = raw / "JPEGImages/2007_000000.jpg"
    photograph.write_bytes(photograph.read_bytes()[:-30])
    with pytest.raises(ImageError, match=r"2007_000000\.jpg cannot be read as an image"):
        prepared(raw, tmp_path / "out", labels="voc")


@pytest.mark.parametrize("name", ["../../evil", "/evil", "a/../../evil"])
def test_lists_that_lead_out_of_their_folder_are_refused_before_anything_is_written(
    tmp_path: Path, raw: Path, name: str
) -> None:
    (raw / "ImageSets/Segmentation/val.txt").write_text(f"{name}\n")
    with pytest.raises(ValueError, match=r"val\.txt: the name '.*evil' leads out of the folder"):
        prepared(raw, tmp_path / "out")
    assert not list(tmp_path.rglob("*evil*")) and not list(tmp_path.glob("out/semantic/**/*.png"))
