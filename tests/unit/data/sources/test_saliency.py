"""Saliency maps: prepared beside the labels, and cut, resized and mirrored exactly like them."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from model.data.loading.pixel_batch import PixelBatch
from model.data.loading.pixel_loading import PixelLoader, pixel_loader
from model.data.loading.pixel_transforms import RandomResizedCrop, ScaleCrop, Transform
from model.data.prepared.dataset import PreparedDataset, PreparedDatasetError
from model.data.prepared.images import write_png
from model.data.prepared.labels import pixel_lookup
from model.data.prepared.preparation import PreparationError
from model.data.sources.prepare import prepare

SALIENT = 2
SPLITS = {"train": {"saliency": "saliency"}, "val": {}}


def write_raw(root: Path, saliency_size: tuple[int, int] = (40, 56)) -> Path:
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        names = [f"{split}{i}" for i in range(4)]
        (root / f"{split}.txt").parent.mkdir(parents=True, exist_ok=True)
        (root / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            labels = generator.integers(0, 4, (5, 7)).astype(np.uint8).repeat(8, axis=0).repeat(8, axis=1)
            write_png(root / "images" / f"{name}.png", generator.integers(0, 255, (40, 56, 3)).astype(np.uint8))
            write_png(root / "labels" / f"{name}.png", labels)
            salient = cv2.resize(
                (labels == SALIENT).astype(np.uint8), saliency_size[::-1], interpolation=cv2.INTER_NEAREST
            )
            write_png(root / "saliency" / f"{name}.png", salient)  # 0 and 1, as some released maps
    return root


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    options = {"root": str(write_raw(tmp_path / "raw")), "classes": ["a", "b", "c", "d"], "splits": SPLITS}
    prepare("folder", options, tmp_path / "out", name="mine")
    return PreparedDataset.open(tmp_path / "out")


def loader(dataset: PreparedDataset, transform: Transform, saliency: bool = True) -> PixelLoader:
    ids = dataset.category_ids
    lookup = pixel_lookup(ids, ids, ids, dataset.background_id, dataset.void_id)
    names = [record.id for record in dataset.records("train")]
    return pixel_loader(dataset, "train", names, lookup, transform, batch_size=4, seed=3, saliency=saliency)


@pytest.mark.parametrize("transform", [RandomResizedCrop(32), ScaleCrop(32), ScaleCrop(96)], ids=repr)
def test_saliency_moves_with_the_labels(dataset: PreparedDataset, transform: Transform) -> None:
    batches: list[PixelBatch] = list(loader(dataset, transform).batches(0, 4))
    for batch, plain in zip(batches, loader(dataset, transform, saliency=False).batches(0, 4), strict=True):
        assert batch.saliency is not None and batch.saliency.dtype == torch.bool and plain.saliency is None
        assert torch.equal(batch.saliency, batch.labels == SALIENT + 1)  # position of the class in the learning order
        assert torch.equal(batch.images, plain.images) and torch.equal(batch.labels, plain.labels)
        moved = batch.to("cpu")
        assert moved.saliency is not None and torch.equal(moved.saliency, batch.saliency)
    assert any(batch.saliency.any() for batch in batches if batch.saliency is not None)


def test_a_split_without_maps_says_what_to_do(dataset: PreparedDataset) -> None:
    with pytest.raises(PreparedDatasetError, match=r"no saliency maps\. Give its option splits\.val\.saliency"):
        dataset.check_saliency("val")
    dataset.check_saliency("train")


def test_a_missing_or_foreign_map_is_named(dataset: PreparedDataset) -> None:
    record = dataset.records("train")[1]
    file = dataset.folder / "saliency" / "train" / f"{record.id}.png"
    write_png(file, np.zeros((3, 3), np.uint8))
    with pytest.raises(PreparedDatasetError, match=r"train1\.png is 3 x 3, but image 'train1' .* with 56 x 40"):
        dataset.read_saliency("train", record)
    file.unlink()
    with pytest.raises(PreparedDatasetError, match=r"train1\.png does not exist"):
        dataset.read_saliency("train", record)


def test_maps_of_another_size_are_refused(tmp_path: Path) -> None:
    raw = write_raw(tmp_path / "raw", saliency_size=(20, 28))
    options = {"root": str(raw), "classes": ["a", "b", "c", "d"], "splits": SPLITS}
    with pytest.raises(
        PreparationError, match=r"^4 of 4 images.*saliency/train0\.png is \(28, 20\), its image is \(56, 40\)"
    ):
        prepare("folder", options, tmp_path / "out", name="mine")
