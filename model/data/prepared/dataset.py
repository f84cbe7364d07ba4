"""The prepared form of a dataset: the one layout that everything after preparation reads.

    dataset.json                    name, category table, special labels, tasks, splits
    <split>.csv                     one image per row: id, file, height, width (a relative file is relative to this folder)
    semantic/<split>/<id>.png       category ids, 8 or 16 bit, one channel
    saliency/<split>/<id>.png       optional: non-zero where the image is salient
    panoptic_<split>.json           COCO panoptic (tasks with panoptic annotation)
    panoptic/<split>/<id>.png       segment id = R + 256·G + 65536·B, 0 = void
    instances_<split>.json          COCO instances, compressed RLE (tasks with instance annotation)
    manifest.json                   from what and by which code it was prepared; counts and hashes of what was written

Label maps keep the dataset's own category ids; which of them a step may see is decided while loading
(``model.data.prepared.labels``).
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.common.files import json_content, read_json, write_text
from model.common.json_files import check_layout, without_checksum, write_checked
from model.data.prepared.images import read_rgb
from model.data.prepared.layout import Annotations, DatasetFile

DATASET = "dataset.json"
FORMAT = 3
_COLUMNS = ("id", "file", "height", "width")


class PreparedDatasetError(ValueError):
    """A prepared folder that cannot be read; the message names the file and the remedy."""


_PREPARE = "delete it to have the dataset prepared again"


@dataclass(frozen=True)
class Category:
    """One class of a dataset.

    Attributes:
        id: value in the prepared label maps.
        name: unique within the dataset.
        isthing: True for countable objects, False for stuff.
        color: RGB, 0…255, for pictures only.
    """

    id: int
    name: str
    isthing: bool
    color: tuple[int, int, int]


@dataclass(frozen=True)
class ImageRecord:
    """One image of a split; ``file`` is readable from any working directory."""

    id: str
    file: Path
    height: int
    width: int


@dataclass(frozen=True)
class PreparedDataset:
    """A prepared folder, opened for reading.

    Attributes:
        folder: where it is.
        name: as configured.
        categories: the class table, in the dataset's natural order.
        background_id: label of pixels that belong to no class of the table; None if every pixel has a class.
        void_id: label of pixels that are never evaluated; None if there is none.
        background_is_labelled: whether an annotator saw that background pixels hold none of the classes (Pascal VOC), or
            they are merely unlabelled (ADE20K's "other").
        tasks: what the annotations allow, of semantic, panoptic, instance.
        splits: e.g. ``("train", "val")``.
        annotations: SHA-256 of the files in COCO's form.
    """

    folder: Path
    name: str
    categories: tuple[Category, ...]
    background_id: int | None
    void_id: int | None
    background_is_labelled: bool
    tasks: tuple[str, ...]
    splits: tuple[str, ...]
    annotations: Mapping[str, str] = field(default_factory=dict, compare=False)

    @classmethod
    def open(cls, folder: Path | str) -> PreparedDataset:
        """Read ``dataset.json`` of a prepared folder.

        Raises:
            FileError: if the folder is missing or unfinished, or the file was damaged.
            PreparedDatasetError: if it is of another format.
        """
        folder = Path(folder).resolve()
        file = folder / DATASET
        content = read_json(file, _PREPARE)
        if content.get("format") != FORMAT:
            raise PreparedDatasetError(f"{file} has format {content.get('format')}, expected {FORMAT}; {_PREPARE}")
        check_layout(content, file, DatasetFile, _PREPARE)
        content = without_checksum(content, file, _PREPARE)
        return cls(
            folder=folder,
            name=content["name"],
            categories=tuple(
                Category(row["id"], row["name"], bool(row["isthing"]), tuple(row["color"]))
                for row in content["categories"]
            ),
            background_id=content["background_id"],
            void_id=content["void_id"],
            background_is_labelled=bool(content["background_is_labelled"]),
            tasks=tuple(content["tasks"]),
            splits=tuple(content["splits"]),
            annotations=content["annotations"],
        )

    @property
    def category_ids(self) -> tuple[int, ...]:
        """Ids of all categories, in table order."""
        return tuple(category.id for category in self.categories)

    def classes(self, task: str) -> tuple[int, ...]:
        """Category ids that a task learns: all of them, or the things for instance segmentation.

        Raises:
            PreparedDatasetError: if the dataset has no annotation for the task.
        """
        if task not in self.tasks:
            raise PreparedDatasetError(
                f"dataset '{self.name}' has no annotation for task '{task}' (it has: {', '.join(self.tasks)})"
            )
        return tuple(c.id for c in self.categories if task != "instance" or c.isthing)

    @cached_property
    def _tables(self) -> dict[str, dict[str, ImageRecord]]:
        return {}

    def _table(self, split: str) -> dict[str, ImageRecord]:
        if split not in self._tables:
            if split not in self.splits:
                raise PreparedDatasetError(
                    f"dataset '{self.name}' has no split '{split}' (it has: {', '.join(self.splits)})"
                )
            self._tables[split] = {record.id: record for record in _read_records(self.folder, split)}
        return self._tables[split]

    def records(self, split: str) -> tuple[ImageRecord, ...]:
        """All images of a split, in the order of its table."""
        return tuple(self._table(split).values())

    def record(self, split: str, image_id: str) -> ImageRecord:
        """One image of a split.

        Raises:
            PreparedDatasetError: if the split has no such image.
        """
        try:
            return self._table(split)[image_id]
        except KeyError:
            raise PreparedDatasetError(
                f"{self.folder / f'{split}.csv'}: no image '{image_id}'; the split or memory file that names it was "
                "made from another preparation of this dataset; delete that file to have it made again"
            ) from None

    def read_image(self, record: ImageRecord) -> np.ndarray:
        """(H, W, 3) uint8, RGB.

        Raises:
            ImageError: if the file cannot be read as an image.
            PreparedDatasetError: if it does not have the size that it was prepared with.
        """
        return self._of_size(read_rgb(record.file), record, record.file)

    def _of_size(self, pixels: np.ndarray, record: ImageRecord, file: Path) -> np.ndarray:
        """An array that has the recorded size: labels of another raster would be learnt without a word."""
        if pixels.shape[:2] != (record.height, record.width):
            height, width = pixels.shape[:2]
            raise PreparedDatasetError(
                f"{file} is {width} x {height}, but image '{record.id}' of dataset '{self.name}' was prepared with "
                f"{record.width} x {record.height} (width x height): put the original back, or start the workflow, which "
                "prepares what has changed"
            )
        return pixels

    def check_photographs(self, records: Iterable[ImageRecord]) -> None:
        """Refuse images whose photograph is not there any more, before anything is computed with the others.

        Raises:
            PreparedDatasetError: naming the first one.
        """
        for record in records:
            if not record.file.is_file():
                raise PreparedDatasetError(
                    f"{record.file} does not exist, but dataset '{self.name}' was prepared with it: put it back, or "
                    f"delete {self.folder / DATASET} to have the dataset prepared again"
                )

    def semantic_file(self, split: str, record: ImageRecord) -> Path:
        """Path of the label map of an image."""
        return self.folder / "semantic" / split / f"{record.id}.png"

    def panoptic_file(self, split: str, record: ImageRecord) -> Path:
        """Path of the panoptic map of an image."""
        return self.folder / "panoptic" / split / f"{record.id}.png"

    def read_semantic(self, split: str, record: ImageRecord) -> np.ndarray:
        """(H, W) uint8 or uint16 category ids.

        Raises:
            PreparedDatasetError: if the map is missing, is not a one-channel image, has another size than its image, or a label
                that the dataset does not have.
        """
        file = self.semantic_file(split, record)
        labels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if labels is None or labels.ndim != 2:
            state = "is not a one-channel image" if file.exists() else "does not exist"
            raise PreparedDatasetError(f"{file} {state}: {self._again}")
        labels = self._of_size(labels, record, file)
        known = cv2.LUT(labels, self._is_label[:256]) if labels.dtype == np.uint8 else self._is_label[labels]
        if not known.all():
            raise PreparedDatasetError(
                f"{file} has label {int(labels[known == 0][0])}, which is neither in the class table of '{self.name}' nor "
                f"background nor void: {self._again}"
            )
        return labels

    @cached_property
    def _is_label(self) -> np.ndarray:
        """(65536,) uint8: 1 for every value that a label map may hold."""
        table = np.zeros(65536, dtype=np.uint8)
        special = [label for label in (self.background_id, self.void_id) if label is not None]
        table[[*self.category_ids, *special]] = 1
        return table

    @property
    def _again(self) -> str:
        """How a prepared folder is repaired; what is right is kept."""
        return f"delete {self.folder / DATASET} and start the workflow, which prepares what is missing or has changed"

    def check_saliency(self, split: str) -> None:
        """Refuse a split that was prepared without saliency maps.

        Raises:
            PreparedDatasetError: naming the folder, and what to do.
        """
        if not (self.folder / "saliency" / split).is_dir():
            raise PreparedDatasetError(
                f"{self.folder / 'saliency' / split} does not exist: dataset '{self.name}' has no saliency maps. Give its "
                f"option splits.{split}.saliency (kind folder), or a setting of the method that needs none"
            )

    def read_saliency(self, split: str, record: ImageRecord) -> np.ndarray:
        """(H, W) bool, True where a saliency map shows an object.

        Raises:
            PreparedDatasetError: if the map is missing or is not a one-channel image of the image's size.
        """
        file = self.folder / "saliency" / split / f"{record.id}.png"
        saliency = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if saliency is None or saliency.ndim != 2:
            state = "is not a one-channel image" if file.exists() else "does not exist"
            raise PreparedDatasetError(f"{file} {state}: {self._again}")
        return self._of_size(saliency, record, file) > 0

    def read_panoptic(self, split: str, record: ImageRecord) -> np.ndarray:
        """(H, W) int32 segment ids, 0 = void.

        Raises:
            PreparedDatasetError: if the map is missing, is not an RGB image, or has another size than its image.
        """
        file = self.panoptic_file(split, record)
        encoded = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if encoded is None or encoded.ndim != 3:
            state = "is not an RGB image" if file.exists() else "does not exist"
            raise PreparedDatasetError(f"{file} {state}: {self._again}")
        bgr = self._of_size(encoded, record, file).astype(np.int32)
        return bgr[..., 2] + 256 * bgr[..., 1] + 65536 * bgr[..., 0]

    def panoptic_annotations(self, split: str) -> dict[str, Any]:
        """The COCO panoptic JSON of a split."""
        return self._read_json(f"panoptic_{split}.json")

    def instance_annotations(self, split: str) -> dict[str, Any]:
        """The COCO instances JSON of a split."""
        return self._read_json(f"instances_{split}.json")

    def _read_json(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        if not file.exists():
            raise PreparedDatasetError(f"{file} does not exist: dataset '{self.name}' has no such annotation")
        text = file.read_bytes()
        if name in self.annotations and hashlib.sha256(text).hexdigest() != self.annotations[name]:
            raise PreparedDatasetError(f"{file} was damaged or edited after it was prepared: {self._again}")
        content = json_content(text, file, _PREPARE)
        check_layout(content, file, Annotations, _PREPARE)
        return content


def write_dataset(
    folder: Path,
    *,
    name: str,
    categories: Sequence[Category],
    background_id: int | None,
    void_id: int | None,
    tasks: Sequence[str],
    splits: Sequence[str],
    background_is_labelled: bool = False,
    content: str = "",
    annotations: Mapping[str, str] | None = None,
) -> None:
    """Write ``dataset.json``; written last, it says that the preparation is complete.

    Args:
        folder: the prepared folder.
        name, categories, background_id, void_id, tasks, splits, background_is_labelled: as in :class:`PreparedDataset`.
        content: digest of everything that was prepared and of the photographs: whoever reads this file alone notices that
            images or labels have changed.
        annotations: SHA-256 of the files in COCO's form.

    Raises:
        PreparedDatasetError: if the table of classes contradicts itself.
        NotWrittenError: if the file cannot be written.
    """
    if background_is_labelled and background_id is None:
        raise PreparedDatasetError(f"dataset '{name}': a labelled background needs a label")
    if len({category.id for category in categories}) != len(categories):
        raise PreparedDatasetError(f"dataset '{name}': the class table has an id twice")
    if len({category.name for category in categories}) != len(categories):
        raise PreparedDatasetError(f"dataset '{name}': the class table has a name twice")
    whole = {
        "format": FORMAT,
        "name": name,
        "categories": [{"id": c.id, "name": c.name, "isthing": c.isthing, "color": list(c.color)} for c in categories],
        "background_id": background_id,
        "void_id": void_id,
        "background_is_labelled": background_is_labelled,
        "tasks": list(tasks),
        "splits": list(splits),
        "annotations": dict(annotations or {}),
        "content": content,
    }
    write_checked(folder / DATASET, whole)


def write_records(folder: Path, split: str, records: Iterable[ImageRecord]) -> None:
    """Write ``<split>.csv``; files inside the folder are stored relative to it, so that the folder can be moved."""
    folder = folder.resolve()
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for record in records:
        file = record.file.resolve()
        inside = file.relative_to(folder).as_posix() if file.is_relative_to(folder) else str(file)
        writer.writerow((record.id, inside, record.height, record.width))
    write_text(folder / f"{split}.csv", table.getvalue())


def _read_records(folder: Path, split: str) -> Iterable[ImageRecord]:
    file = folder / f"{split}.csv"
    try:
        stream = file.open(newline="", encoding="utf-8")
    except FileNotFoundError:
        raise PreparedDatasetError(f"{file} does not exist: prepare the dataset again") from None
    with stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            raise PreparedDatasetError(f"{file} has columns {reader.fieldnames}, expected {', '.join(_COLUMNS)}")
        for number, row in enumerate(reader, start=2):
            try:
                yield ImageRecord(row["id"], folder / row["file"], int(row["height"]), int(row["width"]))
            except (TypeError, ValueError):
                raise PreparedDatasetError(f"{file}: line {number} is not {', '.join(_COLUMNS)}; {_PREPARE}") from None
