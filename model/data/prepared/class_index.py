"""One scan of a prepared dataset: how much of every class is in every image.

Every split and selection rule afterwards is a few vectorised lines on this table.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model.common.array_files import read_arrays
from model.common.files import atomic_file
from model.data.prepared.dataset import ImageRecord, PreparedDataset
from model.data.prepared.labels import row_lookup


class ClassIndexError(ValueError):
    """A class index that cannot be built, read or used; the message names the file or the key."""


@dataclass(frozen=True)
class ClassIndex:
    """Counts per image (row) and category (column) of one split.

    Attributes:
        dataset: name of the dataset.
        split: e.g. ``train``.
        image_ids: rows, in the order of the split's table.
        categories: columns, category ids in table order.
        pixels: (N, C) int64, labelled pixels.
        segments: (N, C) int64, panoptic segments without crowds; None without panoptic annotation.
        instances: (N, C) int64, instance annotations without crowds; None without instance annotation.
    """

    dataset: str
    split: str
    image_ids: tuple[str, ...]
    categories: tuple[int, ...]
    pixels: np.ndarray
    segments: np.ndarray | None = None
    instances: np.ndarray | None = None

    def counts(self, task: str) -> np.ndarray:
        """(N, C) int64: what a task counts. Semantic: 1 where the class is present; panoptic: segments; instance: instances.

        Raises:
            ClassIndexError: if the dataset has no annotation for the task.
        """
        if task == "semantic":
            return (self.pixels > 0).astype(np.int64)
        table = {"panoptic": self.segments, "instance": self.instances}.get(task)
        if table is None:
            raise ClassIndexError(f"dataset '{self.dataset}' has no annotation for task '{task}'")
        return table

    def presence(self, task: str) -> np.ndarray:
        """(N, C) bool: which classes an image has, as a task sees it."""
        return self.counts(task) > 0

    def columns(self, classes: Sequence[int]) -> np.ndarray:
        """Column numbers of category ids, in their order.

        Raises:
            ClassIndexError: for an id that the dataset does not have.
        """
        position = {category: column for column, category in enumerate(self.categories)}
        if unknown := [category for category in classes if category not in position]:
            raise ClassIndexError(f"dataset '{self.dataset}' has no category {unknown}")
        return np.array([position[category] for category in classes], dtype=np.int64)

    def rows(self, image_ids: Sequence[str]) -> np.ndarray:
        """Row numbers of image ids, in their order.

        Raises:
            ClassIndexError: for an image that the split does not have.
        """
        position = {image_id: row for row, image_id in enumerate(self.image_ids)}
        if unknown := [image_id for image_id in image_ids if image_id not in position]:
            raise ClassIndexError(
                f"split '{self.split}' of dataset '{self.dataset}' has no image '{unknown[0]}' "
                f"({len(unknown)} of {len(image_ids)} are unknown): the list was made from other data"
            )
        return np.array([position[image_id] for image_id in image_ids], dtype=np.int64)

    def save(self, file: Path) -> None:
        """Write as ``.npz`` without pickled content; equal tables give equal files."""
        header = {"dataset": self.dataset, "split": self.split, "categories": list(self.categories)}
        tables: dict[str, Any] = {"pixels": self.pixels}
        tables |= {n: t for n, t in (("segments", self.segments), ("instances", self.instances)) if t is not None}
        with atomic_file(file) as stream:
            np.savez_compressed(
                stream,
                header=np.array(json.dumps(header)),
                image_ids=np.array(self.image_ids, dtype=np.str_),
                **tables,
            )

    @classmethod
    def load(cls, file: Path) -> ClassIndex:
        """Read what :meth:`save` wrote.

        Raises:
            ClassIndexError: if the file is not a class index.
        """
        try:
            content = read_arrays(file, ("header", "image_ids", "pixels"))
            header = json.loads(str(content["header"]))
            return cls(
                dataset=header["dataset"],
                split=header["split"],
                image_ids=tuple(content["image_ids"].tolist()),
                categories=tuple(header["categories"]),
                pixels=content["pixels"],
                segments=content.get("segments"),
                instances=content.get("instances"),
            )
        except FileNotFoundError:
            raise ClassIndexError(f"{file} does not exist: scan the dataset first") from None
        except (KeyError, TypeError, ValueError) as error:
            raise ClassIndexError(
                f"{file} is not a class index ({error}): delete it to scan the dataset again"
            ) from error


def build_class_index(dataset: PreparedDataset, split: str, workers: int = 1) -> ClassIndex:
    """Scan one split.

    Args:
        dataset: the prepared folder.
        split: e.g. ``train``.
        workers: threads that read label maps.

    Raises:
        PreparedDatasetError: if a label map holds an unknown label or does not have the size of its image.
        ClassIndexError: if an annotation is of an image or a class that the dataset does not have.
    """
    records = dataset.records(split)
    rows = row_lookup(dataset.category_ids, dataset.background_id, dataset.void_id)
    scan = partial(_scan_image, dataset, split, rows)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        pixels = list(pool.map(scan, records))
    image_ids = tuple(record.id for record in records)
    panoptic = instances = None
    if "panoptic" in dataset.tasks:
        found = _count_segments(dataset.panoptic_annotations(split))
        panoptic = _table(image_ids, dataset.category_ids, found, f"panoptic_{split}.json")
    if "instance" in dataset.tasks:
        found = _count_instances(dataset.instance_annotations(split))
        instances = _table(image_ids, dataset.category_ids, found, f"instances_{split}.json")
    return ClassIndex(
        dataset=dataset.name,
        split=split,
        image_ids=image_ids,
        categories=dataset.category_ids,
        pixels=np.array(pixels, dtype=np.int64).reshape(len(records), len(dataset.categories)),
        segments=panoptic,
        instances=instances,
    )


def _scan_image(dataset: PreparedDataset, split: str, rows: np.ndarray, record: ImageRecord) -> np.ndarray:
    """(C,) labelled pixels of one image."""
    labels = dataset.read_semantic(split, record)
    histogram = np.bincount(labels.ravel(), minlength=len(rows))
    return histogram[list(dataset.category_ids)]


def _count_segments(content: Mapping[str, Any]) -> Counter[tuple[str, int]]:
    return Counter(
        (str(annotation["image_id"]), segment["category_id"])
        for annotation in content["annotations"]
        for segment in annotation["segments_info"]
        if not segment.get("iscrowd", 0)
    )


def _count_instances(content: Mapping[str, Any]) -> Counter[tuple[str, int]]:
    return Counter(
        (str(annotation["image_id"]), annotation["category_id"])
        for annotation in content["annotations"]
        if not annotation.get("iscrowd", 0)
    )


def _table(
    image_ids: Sequence[str], categories: Sequence[int], found: Counter[tuple[str, int]], file: str
) -> np.ndarray:
    row = {image_id: number for number, image_id in enumerate(image_ids)}
    column = {category: number for number, category in enumerate(categories)}
    table = np.zeros((len(image_ids), len(categories)), dtype=np.int64)
    for (image_id, category), number in found.items():
        if image_id not in row or category not in column:
            raise ClassIndexError(
                f"{file} has an annotation of image '{image_id}' and category {category}, one of which the dataset "
                "does not have: prepare the dataset again"
            )
        table[row[image_id], column[category]] = number
    return table
