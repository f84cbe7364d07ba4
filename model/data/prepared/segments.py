"""The labelled segments of one image, as the annotation of each task gives them.

    panoptic    one segment for each entry of the panoptic annotation; crowds are left out
    instance    one for each object; objects may overlap
    semantic    one for each class

A reader gets the label of every visible category; all other segments are treated as if they had not been annotated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from model.data.prepared.dataset import ImageRecord, PreparedDataset, PreparedDatasetError

_TABLE_SIZE = 65536
"""Ids below it are looked up in a table; those of COCO are larger."""

Labels = Mapping[int, int]
"""Category id to label, of the categories that may be seen."""


@dataclass(frozen=True)
class Segments:
    """Segments of one image; those that do not overlap share a layer.

    Attributes:
        layers: (L, H, W) uint8, or int32 with more than 255 segments: number of the segment from 1; 0 = none.
        labels: (N,) int64, label of segment 1 … N.
        layer_of: (N,) int64, the layer that each segment is drawn in.
        keep_empty: whether a segment that a crop cuts away stays a target without pixels.
        nearest: how they are resized: by the nearest pixel centre, or by the pixel at the upper left corner, as torch's
            ``nearest`` does.
    """

    layers: np.ndarray
    labels: np.ndarray
    layer_of: np.ndarray
    keep_empty: bool = True
    nearest: Literal["centre", "corner"] = "centre"

    def drawn(self, layers: np.ndarray) -> Segments:
        """The same segments after a change of geometry."""
        return replace(self, layers=layers)

    def class_map(self) -> np.ndarray:
        """(H, W) int64 label of each pixel, -1 without one; where segments overlap, of the last one."""
        return np.concatenate([[-1], self.labels])[self.layers.max(axis=0, initial=0)]

    def targets(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels (n,) int64 and masks (n, H, W) bool."""
        masks = np.empty((len(self.labels), *self.layers.shape[1:]), dtype=bool)
        for number, layer in enumerate(self.layer_of.tolist()):
            np.equal(self.layers[layer], number + 1, out=masks[number])
        kept = np.ones(len(masks), dtype=bool) if self.keep_empty else masks.any(axis=(1, 2))
        return self.labels[kept], masks[kept]


@dataclass(frozen=True)
class PanopticReader:
    """Entries of ``panoptic_<split>.json`` and their pixels.

    Entries without a pixel (a stuff region that things cover completely) are kept, as in Mask2Former's released code.
    """

    dataset: PreparedDataset
    split: str

    @cached_property
    def _entries(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """(segment id, category id) by image."""
        return {
            str(annotation["image_id"]): tuple(
                (int(segment["id"]), int(segment["category_id"]))
                for segment in annotation["segments_info"]
                if not segment.get("iscrowd", 0)
            )
            for annotation in self.dataset.panoptic_annotations(self.split)["annotations"]
        }

    def load(self) -> None:
        """Read the annotation."""
        _ = self._entries

    def __call__(self, record: ImageRecord, labels: Labels) -> Segments:
        if record.id not in self._entries:
            raise _missing(self.dataset, f"panoptic_{self.split}.json", record)
        seen = [(number, labels[category]) for number, category in self._entries[record.id] if category in labels]
        ids = self.dataset.read_panoptic(self.split, record)
        return disjoint_segments(ids, [number for number, _ in seen], [label for _, label in seen])


@dataclass(frozen=True)
class InstanceReader:
    """Objects of ``instances_<split>.json``; an image without one has no segment."""

    dataset: PreparedDataset
    split: str

    @cached_property
    def _objects(self) -> dict[str, list[dict[str, Any]]]:
        objects: dict[str, list[dict[str, Any]]] = {}
        for annotation in self.dataset.instance_annotations(self.split)["annotations"]:
            if not annotation.get("iscrowd", 0):
                objects.setdefault(str(annotation["image_id"]), []).append(annotation)
        return objects

    def load(self) -> None:
        """Read the annotation."""
        _ = self._objects

    def __call__(self, record: ImageRecord, labels: Labels) -> Segments:
        seen = [one for one in self._objects.get(record.id, ()) if one["category_id"] in labels]
        layers = np.zeros((len(seen), record.height, record.width), dtype=_number_type(len(seen)))
        for number, one in enumerate(seen, start=1):
            layers[number - 1][coco_mask.decode(one["segmentation"]) > 0] = number
        found = np.array([labels[one["category_id"]] for one in seen], dtype=np.int64)
        return Segments(layers, found, np.arange(len(seen)))


@dataclass(frozen=True)
class SemanticReader:
    """Classes of the label map; a class that a crop cuts away is no target, as in Mask2Former's released code.

    That code resizes label maps by torch, and panoptic maps and objects by Pillow.
    """

    dataset: PreparedDataset
    split: str

    def load(self) -> None:
        """Nothing is shared."""

    def __call__(self, record: ImageRecord, labels: Labels) -> Segments:
        raw = self.dataset.read_semantic(self.split, record)
        present = np.zeros(_TABLE_SIZE, dtype=bool)
        present[raw] = True
        seen = [category for category in np.flatnonzero(present).tolist() if category in labels]
        segments = disjoint_segments(raw, seen, [labels[category] for category in seen], keep_empty=False)
        return replace(segments, nearest="corner")


READERS: Mapping[str, type[PanopticReader] | type[InstanceReader] | type[SemanticReader]] = {
    "panoptic": PanopticReader,
    "instance": InstanceReader,
    "semantic": SemanticReader,
}
"""Readers by task."""


def disjoint_segments(
    ids: np.ndarray, wanted: Sequence[int], labels: Sequence[int], keep_empty: bool = True
) -> Segments:
    """Segments drawn in one map.

    Args:
        ids: (H, W) whole numbers ≥ 0.
        wanted: the value of each segment; pixels of other values belong to none.
        labels: the label of each.
        keep_empty: see :class:`Segments`.
    """
    kind = _number_type(len(wanted))
    layer = np.zeros(ids.shape, dtype=kind)
    if wanted and ids.max() < _TABLE_SIZE:
        table = np.zeros(_TABLE_SIZE, dtype=kind)
        for number, value in reversed([*enumerate(wanted, start=1)]):
            if value < _TABLE_SIZE:
                table[value] = number
        layer = table[ids]
    else:
        for number, value in reversed([*enumerate(wanted, start=1)]):
            layer[ids == value] = number
    none = np.zeros(len(labels), dtype=np.int64)
    return Segments(layer[None], np.asarray(labels, dtype=np.int64), none, keep_empty)


def _number_type(segments: int) -> type[np.uint8] | type[np.int32]:
    """The smallest type of the numbers of so many segments."""
    return np.uint8 if segments < 256 else np.int32


def _missing(dataset: PreparedDataset, file: str, record: ImageRecord) -> PreparedDatasetError:
    return PreparedDatasetError(
        f"{dataset.folder / file}: has no annotation of image '{record.id}': prepare the dataset again"
    )
