from typing import Any

import numpy as np
import pytest
import torch

from model.data.loading.mask_batch import MaskBatch
from model.data.loading.mask_loading import Exemplar, MaskLoader, MaskSample, collate, mask_loader
from model.data.loading.mask_transforms import ShortestEdgeCrop
from model.data.prepared.dataset import PreparedDataset

TRANSFORM = ShortestEdgeCrop(64, (48, 64, 80))


def loader(dataset: PreparedDataset, **changes: Any) -> MaskLoader:
    names = [record.id for record in dataset.records("train")]
    arguments: dict[str, Any] = {
        "task": "panoptic",
        "image_ids": names[:20],
        "labels": {6: 2, 7: 3},
        "transform": TRANSFORM,
        "batch_size": 6,
        "seed": 5,
        "exemplars": [Exemplar(name, {0: 0} if k % 2 else {1: 1}) for k, name in enumerate(names[18:26])],
    }
    return mask_loader(dataset, "train", **{**arguments, **changes})


def equal(first: MaskBatch, second: MaskBatch) -> bool:
    return (
        first.names == second.names
        and first.sizes == second.sizes
        and torch.equal(first.images, second.images)
        and torch.equal(first.from_memory, second.from_memory)
        and all(
            torch.equal(a.labels, b.labels) and torch.equal(a.masks, b.masks)
            for a, b in zip(first.labels, second.labels, strict=True)
        )
    )


@pytest.mark.parametrize("task", ["panoptic", "instance", "semantic"])
def test_shapes_and_types(shapes: PreparedDataset, task: str) -> None:
    batch = next(loader(shapes, task=task).batches(0, 1))
    assert batch.images.shape == (6, 3, 64, 64) and batch.images.dtype == torch.float32
    assert len(batch.labels) == len(batch.sizes) == len(batch.names) == 6
    assert batch.from_memory.shape == (6,) and batch.from_memory.dtype == torch.bool
    for targets in batch.labels:
        assert targets.labels.dtype == torch.int64 and targets.masks.dtype == torch.bool
        assert targets.masks.shape == (len(targets), 64, 64)
    assert len(loader(shapes)) == 4  # 28 items, the incomplete fifth batch is dropped


def test_images_that_keep_their_shape_are_padded_to_the_largest_of_the_batch() -> None:
    generator = np.random.default_rng(0)

    def sample(height: int, width: int) -> MaskSample:
        image = generator.normal(size=(3, height, width)).astype(np.float32)
        return MaskSample(image, np.array([1]), np.ones((1, height, width), bool), (height, width), "a", False)

    samples = [sample(40, 80), sample(50, 33)]
    batch = collate(samples)
    assert batch.images.shape == (2, 3, 64, 96) and batch.sizes == ((40, 80), (50, 33))
    for k, (height, width) in enumerate(batch.sizes):
        assert np.array_equal(batch.images[k, :, :height, :width], samples[k].image)
        assert batch.images[k].count_nonzero() <= 3 * height * width
        assert batch.labels[k].masks.shape == (1, 64, 96) and batch.labels[k].masks.sum() == height * width


def test_every_exemplar_shows_the_classes_that_were_labelled_when_it_was_chosen(shapes: PreparedDataset) -> None:
    shown: dict[str, set[int]] = {}
    own: set[int] = set()
    exemplars = {record.id: k % 2 for k, record in enumerate(shapes.records("train")[18:26])}
    for batch in loader(shapes).batches(0, 24):
        for targets, name, from_memory in zip(batch.labels, batch.names, batch.from_memory.tolist(), strict=True):
            (shown.setdefault(name, set()) if from_memory else own).update(targets.labels.tolist())
    assert own == {2, 3}
    assert shown.keys() == exemplars.keys()
    assert all(labels <= {0 if exemplars[name] else 1} for name, labels in shown.items())
    assert set().union(*shown.values()) == {0, 1}


def test_batches_do_not_depend_on_workers_or_on_where_training_starts(shapes: PreparedDataset) -> None:
    whole = list(loader(shapes).batches(0, 7))
    resumed = list(loader(shapes, workers=2).batches(3, 7))
    assert len(whole) == 7
    assert all(equal(first, second) for first, second in zip(whole[3:], resumed, strict=True))


def test_batches_depend_on_seed_and_epoch(shapes: PreparedDataset) -> None:
    first, later = next(loader(shapes).batches(0, 1)), next(loader(shapes).batches(4, 5))
    assert not equal(first, later)
    assert not equal(first, next(loader(shapes, seed=6).batches(0, 1)))


def test_both_families_see_the_same_images_in_the_same_order(shapes: PreparedDataset) -> None:
    from model.data.loading.pixel_loading import pixel_loader
    from model.data.loading.pixel_transforms import RandomResizedCrop
    from model.data.prepared.labels import pixel_lookup

    names = [record.id for record in shapes.records("train")][:20]
    table = pixel_lookup(shapes.category_ids, shapes.category_ids, [0], shapes.background_id, shapes.void_id)
    pixels = pixel_loader(shapes, "train", names, table, RandomResizedCrop(32), batch_size=6, seed=5)
    masks = loader(shapes, exemplars=())
    assert [b.names for b in pixels.batches(0, 7)] == [b.names for b in masks.batches(0, 7)]


def test_a_batch_moves_as_a_whole(shapes: PreparedDataset) -> None:
    moved = next(loader(shapes).batches(0, 1)).to("meta")
    assert {moved.images.device.type, moved.from_memory.device.type, moved.labels[0].masks.device.type} == {"meta"}
