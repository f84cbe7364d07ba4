"""Running a mask network over a split, as Mask2Former's released code does at test time.

Images are scaled to a given short side, unless the long side would exceed its upper bound, and padded to multiples of 32 after
normalisation. Only images of one size share a batch, so each is padded as it would be alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.data.loading.normalisation import normalise
from model.data.prepared.dataset import ImageRecord, PreparedDataset
from model.data.prepared.images import one_thread_before_fork
from model.evaluation.evaluators.base import EvaluationInputs
from model.losses.mask_activation import MaskActivation, mask_probabilities
from model.networks.mask2former.padding import pad_images, resize_masks

LONGEST = 4
"""How many times as long as the requested short side the long side may be by default: 2560 for 640, 2048 for 512."""

Size = tuple[int, int]


@dataclass(frozen=True)
class ResizedMasks:
    """Mask probabilities of an image at another size, computed for those queries only that are asked for.

    Attributes:
        logits: (Q, h, w) mask logits of the padded image at the network's resolution.
        padded: (height, width) of the padded image.
        inside: (height, width) of the image inside the padded one.
        size: (H, W) of the whole image that probabilities are asked for.
        activation: what turns mask logits into probabilities, after they were resized.
    """

    logits: Tensor
    padded: Size
    inside: Size
    size: Size
    activation: MaskActivation

    @property
    def shape(self) -> torch.Size:
        """(Q, H, W)."""
        return torch.Size((len(self.logits), *self.size))

    def __getitem__(self, queries: Any) -> Tensor:
        """(n, H, W) of some queries; ``[:]`` for all. A softmax compares all queries, so it takes them all in any case."""
        if self.activation == "softmax":
            return mask_probabilities(self._resized(self.logits), "softmax")[queries]
        masks = self._resized(self.logits[queries])
        for mask in masks:  # one by one, as a call may round its last pixels differently
            mask.sigmoid_()
        return masks

    def _resized(self, logits: Tensor) -> Tensor:
        return resize_masks(logits, self.padded, self.inside, self.size)


@dataclass(frozen=True)
class MaskedImage:
    """The network's prediction for one image.

    Attributes:
        record: the image.
        image: (H, W, 3) uint8 RGB, original size.
        logits: (Q, K + 1) class logits.
        masks: (Q, h, w) mask logits of the padded image at the network's resolution.
        padded: (height, width) of the padded image.
        inside: (height, width) of the image inside the padded one.
        activation: what turns mask logits into probabilities.
    """

    record: ImageRecord
    image: np.ndarray
    logits: Tensor
    masks: Tensor
    padded: Size
    inside: Size
    activation: MaskActivation

    def masks_at(self, size: Size) -> ResizedMasks:
        """Mask probabilities (Q, H, W) at another size of the whole image."""
        return ResizedMasks(self.masks, self.padded, self.inside, size, self.activation)


class _Items(Dataset[tuple[ImageRecord, np.ndarray, np.ndarray]]):
    def __init__(
        self, dataset: PreparedDataset, records: Sequence[ImageRecord], size: int | None, longest: int | None
    ) -> None:
        self.dataset, self.records, self.size, self.longest = dataset, records, size, longest

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[ImageRecord, np.ndarray, np.ndarray]:
        record = self.records[index]
        image = self.dataset.read_image(record)
        height, width = seen_size((record.height, record.width), self.size, self.longest)
        seen = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
        return record, image, normalise(seen)


def seen_size(size: Size, shortest: int | None, longest: int | None = None) -> Size:
    """(height, width) at which the network sees an image of this size.

    Args:
        size: (height, width) of the image.
        shortest: what its short side becomes; None leaves the image as it is.
        longest: upper bound of its long side; None: four times ``shortest``.
    """
    if shortest is None:
        return size
    factor = min(shortest / min(size), (longest or LONGEST * shortest) / max(size))
    height, width = (int(side * factor + 0.5) for side in size)
    return height, width


@torch.inference_mode()
def predict_masks(inputs: EvaluationInputs, records: Sequence[ImageRecord]) -> Iterator[MaskedImage]:
    """The network's prediction for every image; the network is put into evaluation mode.

    Args:
        inputs: network, method, classes, size, batch size, device, workers.
        records: the images, in any order.
    """
    inputs.network.eval()
    ordered = sorted(records, key=lambda record: (record.height, record.width))
    groups = [list(group) for _, group in groupby(range(len(ordered)), lambda i: (ordered[i].height, ordered[i].width))]
    size = inputs.batch_size
    batches = [group[start : start + size] for group in groups for start in range(0, len(group), size)]
    items = _Items(inputs.dataset, ordered, inputs.size, inputs.longest)
    if inputs.workers:
        one_thread_before_fork()
    loader: DataLoader[Any] = DataLoader(items, batch_sampler=batches, num_workers=inputs.workers, collate_fn=list)
    for batch in loader:
        padded = pad_images([torch.from_numpy(seen) for _, _, seen in batch]).to(inputs.device)
        outputs = inputs.network(padded)
        found = inputs.method.predict(outputs, inputs.step)
        for (record, image, seen), logits, masks in zip(batch, found.logits, found.masks, strict=True):
            inside = (seen.shape[1], seen.shape[2])
            whole = (padded.shape[2], padded.shape[3])
            yield MaskedImage(record, image, logits, masks, whole, inside, outputs.mask_activation)
