"""Predictions as files: label maps, or segments and objects in COCO's result formats.

    semantic/<name>.png      category ids, 8 or 16 bit
    panoptic/<name>.png      segment id = R + 256·G + 65536·B, 0 = none
    panoptic.json            COCO panoptic: images, annotations with segments_info, categories
    instances.json           COCO results: image_id, category_id, score, segmentation (compressed RLE)
    images.json              images and categories, as the ground-truth files of COCO begin
    predictions.json         what made the predictions, and the files that are Segue's

An image's id is the name of its results, as a number where all names are numbers, as those of COCO are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from model.common.files import FileError, read_json, write_json
from model.common.own_folders import MARKER, ForeignFolderError, check_claimable, claim, is_ours, remove_listed
from model.data.prepared.dataset import Category
from model.data.prepared.images import write_png
from model.evaluation.metrics.average_precision import detection
from model.evaluation.prediction.photographs import Photograph, PhotographError
from model.evaluation.prediction.predictor import Prediction

HOLDS = "predictions"
RECORD = "predictions.json"


def check_folder(folder: Path, photographs: Sequence[Photograph]) -> None:
    """Refuse a folder that holds files of somebody else, or among which the photographs lie; nothing is written.

    Raises:
        ForeignFolderError: naming the folder.
    """
    try:
        check_claimable(folder, HOLDS)
    except ForeignFolderError:
        raise ForeignFolderError(
            f"{folder} already exists and holds files that are not predictions of Segue (it has no {MARKER}): name a new or an "
            "empty folder; nothing in it was changed"
        ) from None
    home = folder.resolve()
    for photograph in photographs:
        if photograph.file.resolve().is_relative_to(home):
            raise ForeignFolderError(
                f"{photograph.file} lies in {folder}, where the predictions would go: name another folder for them"
            )


@dataclass
class PredictionFiles:
    """A folder of predictions; what an earlier run left there goes first.

    Attributes:
        folder: made if needed.
        task: semantic, panoptic or instance.
        classes: learnt so far, in learning order.
        nothing: value in label maps of pixels without a class.
        numbers: whether the names of all images are numbers, which are then their ids.
        made_by: what the predictions were made by, for the record.
    """

    folder: Path
    task: str
    classes: Sequence[Category]
    nothing: int
    numbers: bool
    made_by: Mapping[str, Any]
    _images: list[dict[str, Any]] = field(default_factory=list, init=False)
    _results: list[dict[str, Any]] = field(default_factory=list, init=False)
    _files: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if is_ours(self.folder, HOLDS):
            remove_listed(self.folder, _listed(self.folder / RECORD))
        claim(self.folder, HOLDS)

    def add(self, photograph: Photograph, size: tuple[int, int], prediction: Prediction) -> None:
        """Write the maps of an image.

        Args:
            photograph: which one.
            size: (height, width) of the file; the prediction may have been made at a smaller one.
            prediction: what is predicted for it.
        """
        image = int(photograph.name) if self.numbers else photograph.name
        self._images.append({"id": image, "file_name": photograph.file.name, "height": size[0], "width": size[1]})
        if self.task == "semantic":
            values = np.array([self.nothing, *(category.id for category in self.classes)])
            kind = np.uint8 if values.max() <= 255 else np.uint16
            self._write(f"semantic/{photograph.name}.png", values.astype(kind)[_resized(prediction.labels, size)])
        elif self.task == "panoptic":
            self._results.append({"image_id": image, **self._panoptic(photograph.name, size, prediction)})
        else:
            self._results.extend(self._objects(image, size, prediction))

    def keep(self, file: Path) -> None:
        """Note another file that was written to the folder."""
        self._files.append(file.relative_to(self.folder).as_posix())

    def close(self) -> None:
        """Write what belongs to all images, and last the record."""
        categories = [
            {"id": one.id, "name": one.name, "isthing": int(one.isthing), "color": list(one.color)}
            for one in self.classes
        ]
        described: dict[str, Any] = {"images": self._images, "categories": categories}
        if self.task == "panoptic":
            self._json("panoptic.json", {**described, "annotations": self._results})
        elif self.task == "instance":
            self._json("instances.json", self._results)
            self._json("images.json", described)
        record = {"task": self.task, "nothing": self.nothing, **described, **self.made_by, "files": sorted(self._files)}
        write_json(self.folder / RECORD, record)

    def _panoptic(self, name: str, size: tuple[int, int], prediction: Prediction) -> dict[str, Any]:
        assert prediction.ids is not None
        ids, file = _resized(prediction.ids, size), f"{name}.png"
        channels = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        self._write(f"panoptic/{file}", channels)
        found = [
            {
                "id": segment.id,
                "category_id": self.classes[segment.position - 1].id,
                "iscrowd": 0,
                "area": int(mask.sum()),
                "bbox": _box(mask),
            }
            for segment in prediction.segments
            if (mask := ids == segment.id).any()  # a segment of a pixel may get lost where maps are resized
        ]
        return {"file_name": file, "segments_info": found}

    def _objects(self, image: int | str, size: tuple[int, int], prediction: Prediction) -> Iterator[dict[str, Any]]:
        for one in prediction.detections:
            yield detection(image, self.classes[one.position - 1].id, one.score, _resized(one.mask, size))

    def _write(self, name: str, array: np.ndarray) -> None:
        write_png(self.folder / name, array, drawn=True)
        self._files.append(name)

    def _json(self, name: str, content: Any) -> None:
        write_json(self.folder / name, content)
        self._files.append(name)


def with_numbers(photographs: Sequence[Photograph]) -> bool:
    """Whether the names of all images are different numbers.

    Raises:
        PhotographError: if there is no image.
    """
    if not photographs:
        raise PhotographError("there is no image to predict")
    numbers = [int(one.name) for one in photographs if one.name.isascii() and one.name.isdecimal()]
    return len({*numbers}) == len(photographs)


def _listed(record: Path) -> list[str]:
    try:
        return [name for name in read_json(record).get("files", ()) if isinstance(name, str)]
    except FileError:
        return []


def _resized(drawn: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A map at the size of the file: every pixel the value of the nearest one."""
    if drawn.shape == size:
        return drawn
    kind = np.uint8 if drawn.dtype == np.bool_ else np.int32
    return cv2.resize(drawn.astype(kind), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT).astype(drawn.dtype)


def _box(mask: np.ndarray) -> list[int]:
    """Left, top, width and height of a region that is not empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return [int(columns[0]), int(rows[0]), int(columns[-1] - columns[0] + 1), int(rows[-1] - rows[0] + 1)]
