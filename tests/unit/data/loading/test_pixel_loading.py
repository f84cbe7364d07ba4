import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from model.data.loading.pixel_batch import PixelBatch
from model.data.loading.pixel_loading import PixelLoader, pixel_loader
from model.data.loading.pixel_transforms import RandomResizedCrop
from model.data.prepared.dataset import PreparedDataset, PreparedDatasetError
from model.data.prepared.labels import pixel_lookup


def table(dataset: PreparedDataset, visible: list[int]) -> np.ndarray:
    ids = dataset.category_ids
    return pixel_lookup(ids, ids, visible, dataset.background_id, dataset.void_id)


def loader(dataset: PreparedDataset, **changes: Any) -> PixelLoader:
    names = [record.id for record in dataset.records("train")]
    arguments: dict[str, Any] = {
        "image_ids": names[:20],
        "lookup": table(dataset, [6, 7]),
        "transform": RandomResizedCrop(48),
        "batch_size": 6,
        "seed": 5,
        "memory_ids": names[18:26],
        "memory_lookup": table(dataset, list(range(8))),
    }
    return pixel_loader(dataset, "train", **{**arguments, **changes})


def equal(first: PixelBatch, second: PixelBatch) -> bool:
    return (
        first.names == second.names
        and torch.equal(first.images, second.images)
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.from_memory, second.from_memory)
    )


def test_shapes_and_types(shapes: PreparedDataset) -> None:
    batch = next(loader(shapes).batches(0, 1))
    assert batch.images.shape == (6, 3, 48, 48) and batch.images.dtype == torch.float32
    assert batch.labels.shape == (6, 48, 48) and batch.labels.dtype == torch.int64
    assert batch.from_memory.shape == (6,) and batch.from_memory.dtype == torch.bool
    assert len(batch) == 6
    assert len(loader(shapes)) == 4  # 28 items, the incomplete fifth batch is dropped


def test_exemplars_show_their_own_classes(shapes: PreparedDataset) -> None:
    shown: dict[bool, set[int]] = {False: set(), True: set()}
    names: dict[bool, set[str]] = {False: set(), True: set()}
    for batch in loader(shapes).batches(0, 24):
        for labels, name, from_memory in zip(batch.labels, batch.names, batch.from_memory.tolist(), strict=True):
            shown[from_memory] |= set(labels.unique().tolist())
            names[from_memory].add(name)
    assert shown[False] == {0, 7, 8}
    assert shown[True] > {0, 7, 8} and max(shown[True]) == 8
    assert len(names[True]) == 8 and len(names[False]) == 20 and len(names[True] & names[False]) == 2


def test_worker_processes_survive_threads_that_the_parent_used(shapes: PreparedDataset) -> None:
    """A forked process that waits for its parent's OpenCV threads would wait for ever."""
    cv2.setNumThreads(4)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (31, 31), 3)  # large enough to start the threads
    assert len(list(loader(shapes, workers=2))) == len(loader(shapes))


@pytest.mark.parametrize("mixing", ["concatenate", "half-batch"])
def test_batches_do_not_depend_on_workers_or_on_where_training_starts(shapes: PreparedDataset, mixing: str) -> None:
    whole = list(loader(shapes, replay_mixing=mixing).batches(0, 7))
    resumed = list(loader(shapes, replay_mixing=mixing, workers=2).batches(3, 7))
    assert len(whole) == 7
    assert all(equal(first, second) for first, second in zip(whole[3:], resumed, strict=True))


def test_batches_depend_on_seed_and_epoch(shapes: PreparedDataset) -> None:
    first, later = next(loader(shapes).batches(0, 1)), next(loader(shapes).batches(4, 5))
    assert not equal(first, later)
    assert not equal(first, next(loader(shapes, seed=6).batches(0, 1)))


def test_half_of_every_batch_comes_from_the_memory(shapes: PreparedDataset) -> None:
    batches = list(loader(shapes, replay_mixing="half-batch"))
    assert [int(batch.from_memory.sum()) for batch in batches] == [3, 3, 3]


def test_two_devices_see_the_batches_of_one(shapes: PreparedDataset) -> None:
    whole = next(loader(shapes).batches(2, 3))
    parts = [next(loader(shapes, rank=rank, world_size=2).batches(2, 3)) for rank in (0, 1)]
    assert parts[0].names + parts[1].names == whole.names
    assert torch.equal(torch.cat([part.images for part in parts]), whole.images)


def test_fewer_images_than_a_batch(shapes: PreparedDataset) -> None:
    few = loader(shapes, image_ids=[shapes.records("train")[0].id], memory_ids=(), memory_lookup=None)
    batches = list(few.batches(0, 2))
    assert len(few) == 1 and [len(batch) for batch in batches] == [6, 6]
    assert not torch.equal(batches[0].images[0], batches[0].images[1])  # each place is augmented on its own


def test_missing_pieces_are_named(shapes: PreparedDataset) -> None:
    with pytest.raises(PreparedDatasetError, match=r"no image 'nothing'"):
        loader(shapes, image_ids=["nothing"])
    with pytest.raises(ValueError, match="lookup table of their own"):
        loader(shapes, memory_lookup=None)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_item_that_cannot_be_read_is_told_in_one_line_from_any_process(
    shapes_folder: Path, tmp_path: Path, workers: int
) -> None:
    copy = PreparedDataset.open(shutil.copytree(shapes_folder, tmp_path / "copy"))
    for record in copy.records("train"):
        copy.semantic_file("train", record).write_bytes(b"")
    with pytest.raises(ValueError, match=r"\.png is not a one-channel image") as caught:
        next(loader(copy, workers=workers).batches(0, 1))
    assert "\n" not in str(caught.value)
