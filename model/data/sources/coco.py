"""COCO 2017, or other data in its panoptic layout.

    annotations/panoptic_<split>.json    images, segments_info of every image, categories
    panoptic_<split>/<stem>.png          segment id = R + 256·G + 65536·B, 0 = no label
    <split>/<file_name>                  photographs
    annotations/instances_<split>.json   optional: objects that may overlap

<split> is train2017 and val2017.

The class table is that of the training annotation, in its order, and COCO's own while that is not there; ids are COCO's,
with their gaps. The label map is made from the segments: the category of each pixel's segment, void where there is none or
where it is a crowd. Instances are the segments of things, crowds included, or the objects of COCO's instance annotation, which
overlap where segments do not. Areas and boxes are kept as annotated.
"""

from __future__ import annotations

import csv
import json
import mmap
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from model.data.download import archives
from model.data.prepared.dataset import Category
from model.data.prepared.images import read_channels
from model.data.prepared.manifest import PreparedSplit, write_prepared
from model.data.prepared.names import image_name
from model.data.prepared.panoptic_form import Instance, instance_annotation
from model.data.prepared.preparation import PreparedImage, RawImage, prepare_split, read_photograph, size_problem
from model.data.prepared.raw_files import RawInputs
from model.data.sources import coco_layout
from model.data.sources.class_orders import published_orders
from model.data.sources.colors import class_color
from model.data.sources.completeness import Count, stems, unmatched

VOID = 255
_FACTS = Path(__file__).parent / "coco_classes.csv"
_OFFICIAL = {"train2017": 118_287, "val2017": 5_000}
"""Number of images."""


class CocoError(ValueError):
    """Annotations that do not fit each other or their files; the message names the file."""


@dataclass(frozen=True)
class Coco:
    """Options of COCO's layout.

    Attributes:
        root: folder that holds ``annotations`` and the folders of images and panoptic maps.
        train, val: which of COCO's splits the two are; the same for both shows whether a network can learn images by heart.
        first: use only so many images of each, in the order of the annotation; None uses all.
        instances: what objects are: ``segments`` of things, or those of the ``official`` instance annotation.
        download: whether the workflow fetches the official archives that are not there.
        complete: whether a part of the official images is an error; always so after a download.
    """

    root: str
    train: str = "train2017"
    val: str = "val2017"
    first: int | None = None
    instances: Literal["segments", "official"] = "segments"
    download: bool = False
    complete: bool = False

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
            CocoError: if the annotation has no class table, or an id cannot be stored in a label map.
            LayoutError: if the table is laid out otherwise.
        """
        file = self._file("train")
        if not file.is_file():
            return packaged_table()
        rows = coco_layout.categories(read_categories(file), file)
        if strange := [row["id"] for row in rows if not 1 <= row["id"] < VOID] or [None] * (not rows):
            raise CocoError(f"{file}: category ids must be within 1…{VOID - 1}, found {strange[0]}")
        return tuple(
            Category(row["id"], row["name"], bool(row["isthing"]), tuple(row.get("color", class_color(row["id"]))))
            for row in rows
        )

    def missing(self) -> list[str]:
        """What is not in the folder."""
        root, where = Path(self.root), archives.where(*self._archives())
        if not root.is_dir():
            return [f"folder {root} does not exist: {where}"]
        wanted = [root / part for raw in self.splits.values() for part in (raw, f"panoptic_{raw}")]
        wanted += [self._file(split) for split in self.splits]
        if self.instances == "official":
            wanted += [self._file(split, "instances") for split in self.splits]
        return [f"{path} does not exist: {where}" for path in wanted if not path.exists()]

    def inputs(self) -> RawInputs:
        """The folder and its annotations."""
        sorts = ("panoptic", *(("instances",) if self.instances == "official" else ()))
        files = [self._file(split, sort) for split in self.splits for sort in sorts]
        return RawInputs((Path(self.root),), [*filter(Path.is_file, dict.fromkeys(files))])

    def downloads(self) -> Mapping[str, Path]:
        """Official archives that are asked for."""
        return dict.fromkeys(self._archives(), Path(self.root)) if self.download else {}

    def counts(self) -> Sequence[Count]:
        """Photographs of each split, unless only the first ones are used."""
        folders = [Path(self.root) / raw for raw in dict.fromkeys(self.splits.values()) if raw in _OFFICIAL]
        if self.first is not None:
            return ()
        return [Count(folder, len(stems(folder, (".jpg",))), _OFFICIAL[folder.name]) for folder in folders]

    def orders(self, task: str) -> Mapping[str, Sequence[int]]:
        """Published class orders, where the class table is that of COCO."""
        ids = [category.id for category in self.categories()]
        return published_orders("coco", task) if ids == [category.id for category in packaged_table()] else {}

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Write the prepared form of both splits."""
        categories = self.categories()
        things = frozenset(category.id for category in categories if category.isthing)
        known = frozenset(category.id for category in categories)
        work = partial(prepare_image, things=things, known=known)
        prepared = {}
        for split in self.splits:
            images = self.list_images(split)
            settings = {"classes": sorted(known), "things": sorted(things)}
            prepared[split] = PreparedSplit(images, prepare_split(folder, split, images, work, settings, workers))
        write_prepared(
            folder,
            name=name,
            categories=categories,
            background_id=None,
            void_id=VOID,
            tasks=("semantic", "panoptic", "instance"),
            splits=prepared,
        )

    def list_images(self, split: str) -> list[RawImage]:
        """Raw files and annotation of each image, in the order of the annotation.

        Raises:
            LayoutError: if the annotation is laid out otherwise, or has two entries for an image.
            NameOfDataError: if a name leads out of its folder.
            CocoError: if the annotation names a file that is not there, or an image that it does not list.
        """
        root, raw, file = Path(self.root).resolve(), self.splits[split], self._file(split)
        content = coco_layout.read(file)
        listed, annotations = coco_layout.panoptic_rows(content, file)
        if split == "train" and content.get("categories") != read_categories(file):
            raise CocoError(
                f"{file}: another list named 'categories' comes after the class table: remove it, or put it before"
            )
        files = {image["id"]: image_name(image["file_name"], file) for image in listed}
        objects = self._objects(split) if self.instances == "official" else None
        images = []
        for one in annotations[: self.first]:
            if one["image_id"] not in files:
                raise CocoError(f"{file}: annotation of image {one['image_id']}, which it does not list")
            annotation = {"segments": one["segments_info"]}
            if objects is not None:
                annotation["objects"] = objects.get(one["image_id"], [])
            name = PurePosixPath(image_name(one["file_name"], file))
            photograph, drawn = root / raw / files[one["image_id"]], root / f"panoptic_{raw}" / name
            images.append(RawImage(str(name.with_suffix("")), photograph, drawn, annotation=annotation))
        _check_present(file, [image.image for image in images])
        _check_present(file, [image.labels for image in images])
        return images

    def _file(self, split: str, sort: str = "panoptic") -> Path:
        return Path(self.root) / "annotations" / f"{sort}_{self.splits[split]}.json"

    def _archives(self) -> tuple[str, ...]:
        photographs = dict.fromkeys(f"coco-{raw}" for raw in self.splits.values() if raw in _OFFICIAL)
        return (*photographs, "coco-panoptic", *(("coco-instances",) if self.instances == "official" else ()))

    def _objects(self, split: str) -> dict[Any, list[dict[str, Any]]]:
        """Annotations of COCO's instance annotation by image."""
        objects: dict[Any, list[dict[str, Any]]] = {}
        file = self._file(split, "instances")
        for one in coco_layout.instance_rows(coco_layout.read(file), file):
            kept = {key: one[key] for key in ("category_id", "segmentation", "area", "bbox", "iscrowd")}
            objects.setdefault(one["image_id"], []).append(kept)
        return objects


def packaged_table() -> tuple[Category, ...]:
    """COCO's 80 things and 53 kinds of stuff."""
    with _FACTS.open(newline="", encoding="utf-8") as stream:
        return tuple(
            Category(int(row["id"]), row["name"], row["isthing"] == "1", class_color(int(row["id"])))
            for row in csv.DictReader(stream)
        )


def read_categories(file: Path) -> Any:
    """The class table of an annotation, without reading everything: COCO's has 300 MB, and every plan needs the table.

    It is the last list of that name in the file.

    Raises:
        CocoError: if there is none, or the file is truncated.
    """
    broken = f"{file} is not a complete panoptic annotation: unpack its archive again"
    if file.stat().st_size < 2:
        raise CocoError(broken)
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as text:
        if not text[-64:].rstrip().endswith(b"}"):
            raise CocoError(broken)
        start = text.rfind(b'"categories"')
        head = text.find(b"[", start)
        rows = text[head:].decode("utf-8", errors="replace") if 0 <= start < head else ""
    try:
        return json.JSONDecoder().raw_decode(rows)[0]
    except (ValueError, RecursionError):
        raise CocoError(broken) from None


def prepare_image(raw: RawImage, things: frozenset[int], known: frozenset[int]) -> PreparedImage:
    """Convert one image.

    Raises:
        CocoError: if sizes differ, a pixel belongs to no listed segment, or a segment or object has an unknown class.
        ImageError: if a file cannot be read.
    """
    height, width, photograph = read_photograph(raw)
    encoded = read_channels(raw.labels)[..., :3]
    if encoded.shape[:2] != (height, width):
        problem = size_problem(raw.labels, encoded.shape, raw.image, (height, width))
        raise CocoError(f"{problem}: unpack both from the same archive")
    ids = encoded[..., 0] + encoded[..., 1] * np.int32(256) + encoded[..., 2] * np.int32(65536)
    semantic = np.full(ids.shape, VOID, dtype=np.uint8)
    kept, instances, listed = [], [], int(np.count_nonzero(ids == 0))
    for one in raw.annotation["segments"]:
        category, crowd = int(one["category_id"]), int(one.get("iscrowd", 0))
        if category not in known:
            raise CocoError(f"{raw.labels}: segment {one['id']} has class {category}, which is not in the class table")
        mask = ids == one["id"]
        listed += int(np.count_nonzero(mask))
        if not crowd:
            semantic[mask] = category
        kept.append({key: one[key] for key in ("id", "category_id", "area", "bbox")} | {"iscrowd": crowd})
        if category in things and mask.any():
            instances.append({**instance_annotation(Instance(category, mask)), "iscrowd": crowd})
    if listed != ids.size:
        strangers = set(np.unique(ids).tolist()) - {0} - {int(one["id"]) for one in raw.annotation["segments"]}
        found = (
            f"segment {min(strangers)}, which its annotation does not list" if strangers else "a segment listed twice"
        )
        raise CocoError(
            f"{raw.labels} has {found}: map and annotation are not from the same release, unpack both again"
        )
    if "objects" in raw.annotation:
        instances = [_object(raw, one, (height, width), things) for one in raw.annotation["objects"]]
    return PreparedImage(height, width, {**photograph, "semantic": semantic, "panoptic": encoded}, kept, instances)


def _object(raw: RawImage, one: Mapping[str, Any], size: tuple[int, int], things: frozenset[int]) -> dict[str, Any]:
    """An official object with its mask as compressed RLE."""
    if one["category_id"] not in things:
        raise CocoError(
            f"{raw.image}: an object has class {one['category_id']}, which is not a thing in the class table"
        )
    shape = one["segmentation"]
    if isinstance(shape, dict) and tuple(shape["size"]) != size:
        raise CocoError(
            f"{raw.image} is {size[::-1]}, but the mask of one of its objects is {tuple(shape['size'])[::-1]}: annotation and "
            "image are not of one release"
        )
    packed = isinstance(shape, dict) and isinstance(shape["counts"], str)
    try:
        encoded = shape if packed else coco_mask.frPyObjects(shape, *size)
        if isinstance(encoded, list):
            encoded = coco_mask.merge(encoded)
        coco_mask.decode(encoded)
    except Exception as error:  # runs that do not add up, or text that is no mask
        raise CocoError(
            f"{raw.image}: the mask of one of its objects cannot be read ({error}): unpack the annotation again"
        ) from error
    counts = encoded["counts"]
    rle = {"size": list(size), "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts}
    return {**one, "segmentation": rle, "iscrowd": int(one["iscrowd"])}


def _check_present(annotation: Path, files: Sequence[Path]) -> None:
    """Whether the files that an annotation names are there."""
    named: dict[Path, list[str]] = {}
    for file in files:
        named.setdefault(file.parent, []).append(file.name)
    for folder, wanted in named.items():
        if absent := unmatched(wanted, os.listdir(folder) if folder.is_dir() else ()):
            name, number = absent
            raise CocoError(
                f"{folder / name} does not exist, but {annotation} names it ({number:,} of {len(wanted):,} are missing): "
                "unpack its archive again"
            )
