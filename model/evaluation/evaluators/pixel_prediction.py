"""Running a per-pixel network over a split.

Labels and predictions are compared at the size that the protocol names. The network may see another size: its logits
are then resized to the size of the labels before the decision.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from model.data.loading.normalisation import normalise
from model.data.loading.pixel_transforms import FullImage, ResizeCentreCrop, Transform, resize
from model.data.prepared.dataset import ImageRecord, PreparedDataset
from model.data.prepared.images import one_thread_before_fork
from model.evaluation.protocols import Geometry
from model.methods.base import Method
from model.scenario import Step


@dataclass(frozen=True)
class PredictedImage:
    """One image as it is evaluated.

    Attributes:
        name: image id.
        image: (H, W, 3) uint8 RGB after the protocol's geometry.
        labels: (H, W) raw category ids after the same geometry.
        prediction: (H, W) int64 positions in the learning order, 0 = background.
        has_seen_class: whether the whole image, before any crop, has a class learnt so far.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    prediction: np.ndarray
    has_seen_class: bool


def geometry_transform(geometry: Geometry) -> Transform:
    """The transform that brings image and labels to the size they are compared at.

    Raises:
        ValueError: if the geometry is not one of per-pixel evaluation.
    """
    if geometry.kind == "full":
        return FullImage()
    if geometry.kind == "resize-crop" and geometry.size is not None:
        return ResizeCentreCrop(geometry.size)
    raise ValueError(f"the geometry '{geometry.kind}' is not defined for per-pixel predictions; use another protocol")


class _Items(Dataset[tuple[str, np.ndarray, np.ndarray, bool]]):
    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        records: Sequence[ImageRecord],
        transform: Transform,
        seen: Sequence[int],
    ) -> None:
        self.dataset, self.split, self.records, self.transform, self.seen = dataset, split, records, transform, seen
        self.generator = np.random.default_rng(0)  # part of the interface; evaluation draws no random numbers

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[str, np.ndarray, np.ndarray, bool]:
        record = self.records[index]
        labels = self.dataset.read_semantic(self.split, record)
        has_seen = bool(np.isin(np.unique(labels), self.seen).any())
        image, labels = self.transform(self.dataset.read_image(record), labels, self.generator)
        return record.id, np.ascontiguousarray(image), np.ascontiguousarray(labels), has_seen


def _batches(records: Sequence[ImageRecord], batch_size: int, cropped: bool) -> list[list[int]]:
    """Indices grouped by image size: only equal shapes can be stacked."""
    order = sorted(range(len(records)), key=lambda i: (0, 0) if cropped else (records[i].height, records[i].width))
    shapes = groupby(order, key=lambda i: None if cropped else (records[i].height, records[i].width))
    groups = [list(members) for _, members in shapes]
    return [group[start : start + batch_size] for group in groups for start in range(0, len(group), batch_size)]


@torch.inference_mode()
def predict_pixels(
    network: nn.Module,
    method: Method,
    step: Step,
    dataset: PreparedDataset,
    split: str,
    *,
    geometry: Geometry,
    size: int | None,
    batch_size: int,
    device: torch.device,
    workers: int = 0,
) -> Iterator[PredictedImage]:
    """Label maps of every image of a split, ordered so that images of equal size follow each other.

    Args:
        network: per-pixel network; put into evaluation mode.
        method: whose decision rule is applied.
        step: after which the network is evaluated.
        dataset: prepared dataset.
        split: e.g. ``val``.
        geometry: size at which predictions are compared.
        size: short side of the images the network sees; None: the size at which they are compared.
        batch_size: images per batch.
        device: where the network is.
        workers: processes that load images.
    """
    network.eval()
    records = dataset.records(split)
    items = _Items(dataset, split, records, geometry_transform(geometry), step.seen)
    if workers:
        one_thread_before_fork()
    loader: DataLoader[Any] = DataLoader(
        items,
        batch_sampler=_batches(records, batch_size, geometry.kind != "full"),
        num_workers=workers,
        collate_fn=list,
    )
    for batch in loader:
        height, width = batch[0][2].shape
        images = torch.from_numpy(np.stack([normalise(_shown(image, size)) for _, image, _, _ in batch])).to(device)
        outputs = network(images)
        if outputs.logits.shape[2:] != (height, width):
            logits = functional.interpolate(outputs.logits, (height, width), mode="bilinear", align_corners=False)
            outputs = replace(outputs, logits=logits)
        predictions = method.predict(outputs, step).cpu().numpy()
        for (name, image, labels, has_seen), prediction in zip(batch, predictions, strict=True):
            yield PredictedImage(name, image, labels, prediction, has_seen)


def _shown(image: np.ndarray, size: int | None) -> np.ndarray:
    height, width = image.shape[:2]
    if size is None or size == min(height, width):
        return image
    factor = size / min(height, width)
    target = round(height * factor), round(width * factor)
    return resize(image, np.zeros((height, width), dtype=np.uint8), *target)[0]
