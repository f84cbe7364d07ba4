"""Batches for networks that predict sets of masks: read, keep what may be seen, augment, normalise, collate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch.utils.data import Dataset

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.data.loading.mask_transforms import DIVISOR, MaskTransform
from model.data.loading.normalisation import normalise
from model.data.loading.numbered import NumberedLoader, augmentation_generator
from model.data.loading.sampling import BatchPlan, Draw, ReplayMixing
from model.data.prepared.dataset import ImageRecord, PreparedDataset
from model.data.prepared.segments import READERS, Labels

MaskLoader = NumberedLoader[MaskBatch]


@dataclass(frozen=True)
class MaskSample:
    """One image of a batch: (3, H, W) float32; labels (N,) int64 and masks (N, H, W) bool; size without padding."""

    image: np.ndarray
    labels: np.ndarray
    masks: np.ndarray
    size: tuple[int, int]
    name: str
    from_memory: bool


@dataclass(frozen=True)
class Exemplar:
    """A replayed image and the labels of the categories that may be seen in it."""

    name: str
    labels: Labels


class MaskItems(Dataset[MaskSample]):
    """Images of a step followed by exemplars; an item is read and augmented as its draw says."""

    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        task: str,
        image_ids: Sequence[str],
        labels: Labels,
        transform: MaskTransform,
        seed: int,
        exemplars: Sequence[Exemplar] = (),
    ) -> None:
        names = (*image_ids, *(exemplar.name for exemplar in exemplars))
        self.dataset = dataset
        self.records: list[ImageRecord] = [dataset.record(split, name) for name in names]
        dataset.check_photographs(self.records)
        self.images = len(image_ids)
        self.labels: list[Labels] = [labels] * len(image_ids) + [exemplar.labels for exemplar in exemplars]
        self.read = READERS[task](dataset, split)
        self.read.load()  # loading processes that are forked later share it
        self.transform, self.seed = transform, seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> MaskSample:
        record = self.records[draw.item]
        segments = self.read(record, self.labels[draw.item])
        generator = augmentation_generator(self.seed, draw)
        image, segments, size = self.transform(self.dataset.read_image(record), segments, generator)
        labels, masks = segments.targets()
        return MaskSample(normalise(image), labels, masks, size, record.id, draw.item >= self.images)


def collate(samples: Sequence[MaskSample], leaked: bool = False) -> MaskBatch:
    """Stack samples; smaller ones are padded at the right and at the bottom to the largest, to a multiple of 32.

    What is added is zero after normalisation and belongs to no target; ``leaked`` is noted in the batch.
    """
    height, width = (-(-max(sample.image.shape[axis] for sample in samples) // DIVISOR) * DIVISOR for axis in (1, 2))
    return MaskBatch(
        images=torch.from_numpy(np.stack([_filled_up(sample.image, height, width) for sample in samples])),
        labels=tuple(
            MaskTargets(torch.from_numpy(s.labels), torch.from_numpy(_filled_up(s.masks, height, width)))
            for s in samples
        ),
        sizes=tuple(sample.size for sample in samples),
        names=tuple(sample.name for sample in samples),
        from_memory=torch.tensor([sample.from_memory for sample in samples], dtype=torch.bool),
        leaked=leaked,
    )


def _filled_up(maps: np.ndarray, height: int, width: int) -> np.ndarray:
    if maps.shape[1:] == (height, width):
        return maps
    return np.pad(maps, ((0, 0), (0, height - maps.shape[1]), (0, width - maps.shape[2])))


def mask_loader(
    dataset: PreparedDataset,
    split: str,
    task: str,
    image_ids: Sequence[str],
    labels: Labels,
    transform: MaskTransform,
    *,
    batch_size: int,
    seed: int,
    exemplars: Sequence[Exemplar] = (),
    replay_mixing: ReplayMixing = "concatenate",
    leaked: bool = False,
    workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> MaskLoader:
    """Training batches of a step.

    Images are drawn as for the per-pixel family. The released code also groups images of one orientation in a batch. Where crops
    are square, this only affects which images share a batch, and is omitted; where images keep their shape, it is done, because
    a batch of both orientations would be padded to a square.

    Args:
        dataset: prepared folder.
        split: where images and exemplars come from, usually ``train``.
        task: whose annotation is read.
        image_ids: images of the step.
        labels: label of each category that may be seen in them.
        transform: augmentation.
        batch_size: over all devices.
        seed: decides order and augmentation.
        exemplars: replayed images, each with its own labels; an image may also be in the step.
        replay_mixing: how exemplars enter the batches.
        leaked: whether ``labels`` has a class of the next step.
        workers: loading processes; 0 loads in this process. Without effect on the batches.
        pin_memory: page-locked tensors, for CUDA.
        rank: which device this process feeds.
        world_size: number of devices that share a batch.

    Raises:
        SamplingError: if no batch can be made.
        PreparedDatasetError: for an image that the split does not have.
    """
    items = MaskItems(dataset, split, task, image_ids, labels, transform, seed, exemplars)
    upright = None if transform.fixed_size else tuple(record.height >= record.width for record in items.records)
    plan = BatchPlan(len(image_ids), len(exemplars), batch_size, seed, replay_mixing, upright)
    return MaskLoader(items, partial(collate, leaked=leaked), plan, workers, pin_memory, rank, world_size)
