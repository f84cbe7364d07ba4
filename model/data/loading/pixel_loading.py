"""Batches for the per-pixel family: read, look labels up, augment, normalise, collate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.utils.data import Dataset

from model.data.loading.normalisation import normalise
from model.data.loading.numbered import NumberedLoader, augmentation_generator
from model.data.loading.pixel_batch import PixelBatch
from model.data.loading.pixel_transforms import Transform
from model.data.loading.sampling import BatchPlan, Draw, ReplayMixing
from model.data.prepared.dataset import ImageRecord, PreparedDataset
from model.data.prepared.labels import apply_lookup

PixelLoader = NumberedLoader[PixelBatch]


@dataclass(frozen=True)
class PixelSample:
    """One image of a batch: (3, H, W) float32, (H, W) uint8, and (H, W) bool if saliency is read."""

    image: np.ndarray
    labels: np.ndarray
    name: str
    from_memory: bool
    saliency: np.ndarray | None = None


class PixelItems(Dataset[PixelSample]):
    """Images of a step followed by exemplars; an item is read and augmented as its draw says."""

    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        image_ids: Sequence[str],
        lookup: np.ndarray,
        transform: Transform,
        seed: int,
        memory_ids: Sequence[str] = (),
        memory_lookup: np.ndarray | None = None,
        saliency: bool = False,
    ) -> None:
        if len(memory_ids) and memory_lookup is None:
            raise ValueError("exemplars need a lookup table of their own: their visible classes differ from the step's")
        self.dataset, self.split = dataset, split
        self.records: list[ImageRecord] = [dataset.record(split, name) for name in (*image_ids, *memory_ids)]
        dataset.check_photographs(self.records)
        self.images = len(image_ids)
        self.lookup, self.memory_lookup = lookup, memory_lookup
        self.transform, self.seed, self.saliency = transform, seed, saliency
        if saliency:
            dataset.check_saliency(split)

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, draw: Draw) -> PixelSample:
        record = self.records[draw.item]
        from_memory = draw.item >= self.images
        table = self.memory_lookup if from_memory and self.memory_lookup is not None else self.lookup
        image = self.dataset.read_image(record)
        labels = apply_lookup(self.dataset.read_semantic(self.split, record), table)
        if self.saliency:  # above the eight bits of the labels, so that both are cropped, resized and flipped alike
            labels = labels | (self.dataset.read_saliency(self.split, record).astype(np.uint16) << 8)
        image, labels = self.transform(image, labels, augmentation_generator(self.seed, draw))
        salient = np.ascontiguousarray(labels >= 256) if self.saliency else None
        labels = np.ascontiguousarray((labels & 255).astype(np.uint8, copy=False))
        return PixelSample(normalise(image), labels, record.id, from_memory, salient)


def collate(samples: Sequence[PixelSample]) -> PixelBatch:
    """Stack samples of one size."""
    salient = [sample.saliency for sample in samples if sample.saliency is not None]
    return PixelBatch(
        images=torch.from_numpy(np.stack([sample.image for sample in samples])),
        labels=torch.from_numpy(np.stack([sample.labels for sample in samples])).long(),
        names=tuple(sample.name for sample in samples),
        from_memory=torch.tensor([sample.from_memory for sample in samples], dtype=torch.bool),
        saliency=torch.from_numpy(np.stack(salient)) if salient else None,
    )


def pixel_loader(
    dataset: PreparedDataset,
    split: str,
    image_ids: Sequence[str],
    lookup: np.ndarray,
    transform: Transform,
    *,
    batch_size: int,
    seed: int,
    memory_ids: Sequence[str] = (),
    memory_lookup: np.ndarray | None = None,
    replay_mixing: ReplayMixing = "concatenate",
    saliency: bool = False,
    workers: int = 0,
    pin_memory: bool = False,
    rank: int = 0,
    world_size: int = 1,
) -> PixelLoader:
    """Training batches of a step.

    Args:
        dataset: prepared folder.
        split: where images and exemplars come from, usually ``train``.
        image_ids: images of the step.
        lookup: labels of these images (``model.data.prepared.labels.pixel_lookup``).
        transform: augmentation to one fixed size.
        batch_size: over all devices.
        seed: decides order and augmentation.
        memory_ids: exemplars; an image may be in both lists.
        memory_lookup: labels of the exemplars.
        replay_mixing: how exemplars enter the batches.
        saliency: also read saliency maps.
        workers: loading processes; 0 loads in this process. Without effect on the batches.
        pin_memory: page-locked tensors, for CUDA.
        rank: which device this process feeds.
        world_size: number of devices that share a batch.

    Raises:
        SamplingError: if no batch can be made.
        PreparedDatasetError: for an image that the split does not have, or without the saliency maps asked for.
    """
    items = PixelItems(dataset, split, image_ids, lookup, transform, seed, memory_ids, memory_lookup, saliency)
    plan = BatchPlan(len(image_ids), len(memory_ids), batch_size, seed, replay_mixing)
    return PixelLoader(items, collate, plan, workers, pin_memory, rank, world_size)
