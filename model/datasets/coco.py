"""COCO 2017, or other data in its panoptic layout.

    annotations/panoptic_<split>.json   images, segments_info of every image, categories
    panoptic_<split>/<stem>.png         segment id = R + 256·G + 65536·B, 0 = no label
    <split>/<file_name>                 photographs

<split> is train2017 and val2017.

The class table is that of the training annotation, in its order, and COCO's own while that is not there; ids are COCO's, with
their gaps. Everything else is made
from the segments: the label map (the category of each pixel's segment, void where there is none or where it is a crowd) and
the instances (every segment of a thing, crowds included). COCO's own instance annotation differs from it: objects overlap
there, segments do not. Areas and boxes are kept as annotated.
"""

from __future__ import annotations

import csv
import json
import mmap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from model.datasets.class_orders import published_orders
from model.datasets.colors import class_color
from model.datasets.images import image_size, read_channels, read_rgb
from model.datasets.panoptic_form import Instance, instance_annotation, write_annotations
from model.datasets.preparation import PreparedImage, RawImage, prepare_split, write_manifest
from model.datasets.prepared import Category, ImageRecord, write_dataset, write_records

VOID = 255
_FACTS = Path(__file__).parent / "coco_classes.csv"
_FACTS = Path(__file__).parent / "coco_classes.csv"
_WHERE = "unpack the images and the panoptic annotations of https://cocodataset.org there"


class CocoError(ValueError):
    """Annotations that do not fit each other or their files; the message names the file."""


@dataclass(frozen=True)
class Coco:
    """Options of COCO's layout.

    Attributes:
        root: folder that holds ``annotations`` and the folders of images and panoptic maps.
        train, val: which of COCO's splits the two are; the same for both shows whether a network can learn images by heart.
        first: use only so many images of each, in the order of the annotation; None uses all.
    """

    root: str
    train: str = "train2017"
    val: str = "val2017"
    first: int | None = None

    def __post_init__(self) -> None:
        if self.first is not None and self.first < 1:
            raise CocoError(f"first = {self.first}: expected at least 1 image")

    @property
    def splits(self) -> dict[str, str]:
        """COCO's name of each split."""
        return {"train": self.train, "val": self.val}

    def categories(self) -> tuple[Category, ...]:
        """The class table of the training annotation; that of COCO while the annotation is not there.

        Raises:
            CocoError: if an id cannot be stored in a label map.
        """
        if not self._file("train").is_file():
            return packaged_table()
        rows = self._annotation("train")["categories"]
        ids = [int(row["id"]) for row in rows]
        if not ids or min(ids) < 1 or max(ids) >= VOID or len(set(ids)) != len(ids):
            raise CocoError(f"{self._file('train')}: category ids must differ and lie in 1…{VOID - 1}")
        return tuple(
            Category(number, str(row["name"]), bool(row["isthing"]), _color(row, number))
            for number, row in zip(ids, rows, strict=True)
        )

    def missing(self) -> list[str]:
        """What is not in the folder."""
        root = Path(self.root)
        if not root.is_dir():
            return [f"folder {root} does not exist ({_WHERE})"]
        wanted = [root / part for raw in self.splits.values() for part in (raw, f"panoptic_{raw}")]
        wanted += [self._file(split) for split in self.splits]
        return [f"{path} does not exist ({_WHERE})" for path in wanted if not path.exists()]

    def orders(self, task: str) -> Mapping[str, Sequence[int]]:
        """Published class orders, where the class table is that of COCO."""
        ids = [category.id for category in self.categories()]
        return published_orders("coco", task) if ids == [category.id for category in packaged_table()] else {}

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Write the prepared form of both splits."""
        categories = self.categories()
        things = frozenset(category.id for category in categories if category.isthing)
        known = frozenset(category.id for category in categories)
        lines = {}
        for split in self.splits:
            images, segments = self._images(split)
            work = partial(prepare_image, segments=segments, things=things, known=known)
            settings = {"things": sorted(things), "segments": segments}
            lines[split] = prepare_split(folder, split, images, work, settings, workers)
            sizes = zip(images, lines[split], strict=True)
            write_records(folder, split, (ImageRecord(i.id, i.image, n["height"], n["width"]) for i, n in sizes))
            write_annotations(folder, split, categories, lines[split])
        write_manifest(folder, lines)
        write_dataset(
            folder,
            name=name,
            categories=categories,
            background_id=None,
            void_id=VOID,
            tasks=("semantic", "panoptic", "instance"),
            splits=tuple(self.splits),
        )

    def _file(self, split: str) -> Path:
        return Path(self.root) / "annotations" / f"panoptic_{self.splits[split]}.json"

    @cached_property
    def _read(self) -> dict[str, dict[str, Any]]:
        return {}

    def _annotation(self, split: str) -> dict[str, Any]:
        if split not in self._read:
            file = self._file(split)
            try:
                self._read[split] = json.loads(file.read_text(encoding="utf-8"))
            except FileNotFoundError:
                raise CocoError(f"{file} does not exist ({_WHERE})") from None
            except json.JSONDecodeError as error:
                raise CocoError(f"{file} is not valid JSON ({error}): unpack the archive again") from None
        return self._read[split]

    def _images(self, split: str) -> tuple[list[RawImage], dict[str, list[dict[str, Any]]]]:
        """Raw files and the segments of each image, in the order of the annotation."""
        root, raw = Path(self.root).resolve(), self.splits[split]
        content = self._annotation(split)
        files = {image["id"]: image["file_name"] for image in content["images"]}
        images, segments = [], {}
        for one in content["annotations"][: self.first]:
            if one["image_id"] not in files:
                raise CocoError(f"{self._file(split)}: annotation of image {one['image_id']}, which is not listed")
            stem = Path(one["file_name"]).stem
            photograph, drawn = root / raw / files[one["image_id"]], root / f"panoptic_{raw}" / one["file_name"]
            for part in (photograph, drawn):
                if not part.is_file():
                    raise CocoError(f"{part} does not exist, but {self._file(split)} names it ({_WHERE})")
            images.append(RawImage(stem, photograph, drawn))
            segments[stem] = one["segments_info"]
        return images, segments


def packaged_table() -> tuple[Category, ...]:
    """COCO's 80 things and 53 kinds of stuff."""
    with _FACTS.open(newline="", encoding="utf-8") as stream:
        return tuple(
            Category(int(row["id"]), row["name"], row["isthing"] == "1", class_color(int(row["id"])))
            for row in csv.DictReader(stream)
        )


def packaged_categories() -> list[dict[str, Any]]:
    """COCO's 133 panoptic categories, in the order of its annotation."""
    with _FACTS.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return [{"id": int(row["id"]), "name": row["name"], "isthing": int(row["isthing"])} for row in rows]


def read_categories(file: Path) -> list[dict[str, Any]]:
    """The class table of an annotation, without reading the rest: COCO's has 300 MB.

    Raises:
        CocoError: if there is none, or the file breaks off before its end.
    """
    broken = f"{file} is not a whole panoptic annotation: unpack the archive again ({_WHERE})"
    if file.stat().st_size < 2:
        raise CocoError(broken)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if not text[-64:].rstrip().endswith(b"}"):
            raise CocoError(broken)
        start = text.rfind(b'"categories"')
        head = text.find(b"[", start)
        rows = text[head:].decode("utf-8", errors="replace") if 0 <= start < head else ""
    try:
        found: list[dict[str, Any]] = json.JSONDecoder().raw_decode(rows)[0]
    except json.JSONDecodeError:
        raise CocoError(broken) from None
    return found


def prepare_image(
    raw: RawImage, segments: Mapping[str, Sequence[Mapping[str, Any]]], things: frozenset[int], known: frozenset[int]
) -> PreparedImage:
    """Convert one image.

    Raises:
        CocoError: if sizes differ, a pixel belongs to no listed segment, or a segment has an unknown class.
        ImageError: if a file cannot be read.
    """
    height, width = image_size(raw.image)
    read_rgb(raw.image)  # a truncated photograph is found now and not in the middle of a training
    encoded = read_channels(raw.labels)[..., :3]
    if encoded.shape[:2] != (height, width):
        raise CocoError(f"{raw.labels} is {encoded.shape[1::-1]}, its image {raw.image} is {(width, height)}")
    ids = encoded.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
    listed = segments[raw.id]
    if strangers := sorted(set(np.unique(ids).tolist()) - {0} - {int(one["id"]) for one in listed}):
        raise CocoError(f"{raw.labels} has segment {strangers[0]}, which its annotation does not list")
    semantic = np.full(ids.shape, VOID, dtype=np.uint8)
    kept, instances = [], []
    for one in listed:
        category, crowd = int(one["category_id"]), int(one.get("iscrowd", 0))
        if category not in known:
            raise CocoError(f"{raw.labels}: segment {one['id']} has class {category}, which is not in the class table")
        mask = ids == one["id"]
        if not crowd:
            semantic[mask] = category
        kept.append({key: one[key] for key in ("id", "category_id", "area", "bbox")} | {"iscrowd": crowd})
        if category in things and mask.any():
            instances.append({**instance_annotation(Instance(category, mask)), "iscrowd": crowd})
    return PreparedImage(height, width, {"semantic": semantic, "panoptic": encoded}, kept, instances)


def _color(row: Mapping[str, Any], number: int) -> tuple[int, int, int]:
    if "color" in row:
        red, green, blue = (int(value) for value in row["color"])
        return red, green, blue
    return class_color(number)
