"""ADE20K: SceneParsing labels and instance maps to the prepared form.

Raw layout (SceneParsing 2016, instances 2017 unpacked inside it):

    images/{training,validation}/<stem>.jpg
    annotations/{training,validation}/<stem>.png             0 = other, 1…K = class
    annotations_instance/{training,validation}/<stem>.png    RGB: R = instance class, G = instance number in the image, 0 = none
    objectInfo<K>.txt                                        table of the K classes, the name in the last column

Category ids are label − 1 in 8-bit arithmetic: 0…K−1, and 255 for "other". Which instance class is which label is not part of
the archives; the table for the 150 classes lies beside this file, other data in this layout bring an ``instance_classes.csv``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.common.text_files import read_text
from model.data.download import archives
from model.data.prepared.dataset import Category
from model.data.prepared.images import read_channels, read_labels
from model.data.prepared.manifest import PreparedSplit, write_prepared
from model.data.prepared.panoptic_form import Instance, compose_panoptic, instance_annotation
from model.data.prepared.preparation import PreparedImage, RawImage, prepare_split, read_photograph, size_problem
from model.data.prepared.raw_files import RawInputs
from model.data.sources.class_orders import published_orders
from model.data.sources.colors import class_color
from model.data.sources.completeness import Count, stems, unmatched

OTHER = 255
SPLITS = {"train": "training", "val": "validation"}
INSTANCE_CLASSES = "instance_classes.csv"
_FACTS = Path(__file__).parent / "ade20k_classes.csv"
_OFFICIAL = {"train": 20_210, "val": 2_000}
"""Number of images."""
_PHOTOGRAPHS = (".jpg", ".jpeg", ".png")


class Ade20kError(ValueError):
    """Raw data that break the layout; the message names the file, what was expected and the remedy."""


@dataclass(frozen=True)
class ClassTable:
    """Names of the labels 1…K, and the label of every instance class."""

    names: tuple[str, ...]
    instance_labels: Mapping[int, int]

    @property
    def categories(self) -> tuple[Category, ...]:
        """Categories with ids 0…K−1; things are the labels that have an instance class."""
        things = set(self.instance_labels.values())
        return tuple(
            Category(number, name, number + 1 in things, class_color(number)) for number, name in enumerate(self.names)
        )


@dataclass(frozen=True)
class Ade20k:
    """ADE20K, or other data in its layout.

    Attributes:
        root: folder that holds ``images`` and ``annotations``.
        instances: whether instance maps are needed; without them the dataset is for semantic segmentation only.
        download: whether the workflow fetches the official archives that are not there.
        complete: whether a part of the official images is an error; always so after a download.
    """

    root: str
    instances: bool = True
    download: bool = False
    complete: bool = False

    def categories(self) -> tuple[Category, ...]:
        """The class table; that of ADE20K while the folder is not there."""
        return self.table().categories

    def table(self) -> ClassTable:
        """Names and instance classes, of the folder or of ADE20K."""
        root = Path(self.root)
        return read_class_table(root) if any(root.glob("objectInfo*.txt")) else packaged_table()

    def missing(self) -> list[str]:
        """What is not in the folder."""
        root, where = Path(self.root), archives.where(*self._archives())
        if not root.is_dir():
            return [f"folder {root} does not exist: {where}"]
        problems = [f"{root / part} does not exist: {where}" for part in self._parts() if not (root / part).is_dir()]
        if not any((root / "images" / raw).is_dir() for raw in SPLITS.values()):
            problems.append(f"{root / 'images'} has neither of {', '.join(SPLITS.values())}: {where}")
        return problems

    def inputs(self) -> RawInputs:
        """The folder, its tables, and the photographs of each split."""
        root = Path(self.root)
        tables = [*sorted(root.glob("objectInfo*.txt")), *filter(Path.is_file, [root / INSTANCE_CLASSES])]
        return RawInputs((root,), tables, [root / "images" / raw for raw in SPLITS.values()])

    def downloads(self) -> Mapping[str, Path]:
        """Official archives that are asked for."""
        return dict.fromkeys(self._archives(), Path(self.root)) if self.download else {}

    def counts(self) -> Sequence[Count]:
        """Images of each split; nothing official is known about data with classes of their own."""
        if len(self.categories()) != len(packaged_table().names):
            return ()
        folders = {split: Path(self.root) / "images" / raw for split, raw in SPLITS.items()}
        return [Count(folder, len(stems(folder, _PHOTOGRAPHS)), _OFFICIAL[s]) for s, folder in folders.items()]

    def orders(self, task: str) -> Mapping[str, Sequence[int]]:
        """Published class orders; the letters b and c are MiB's for semantic segmentation, CoMFormer's otherwise."""
        return (
            published_orders("ade20k", task, first_label=1)
            if len(self.categories()) == len(packaged_table().names)
            else {}
        )

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Write the prepared form of all splits that the folder has."""
        root = Path(self.root).resolve()
        table = self.table()
        work = partial(prepare_image, table=table)
        settings = {"labels": list(table.names), "instances": sorted(table.instance_labels.items())}
        splits = {split: raw for split, raw in SPLITS.items() if (root / "images" / raw).is_dir()}
        prepared = {}
        for split, raw in splits.items():
            images = list_images(root, raw, self.instances)
            prepared[split] = PreparedSplit(images, prepare_split(folder, split, images, work, settings, workers))
        write_prepared(
            folder,
            name=name,
            categories=table.categories,
            background_id=OTHER,
            void_id=None,
            tasks=("semantic", "panoptic", "instance") if self.instances else ("semantic",),
            splits=prepared,
        )

    def _archives(self) -> tuple[str, ...]:
        return ("ade20k-scenes", *(("ade20k-instances",) if self.instances else ()))

    def _parts(self) -> tuple[str, ...]:
        return ("images", "annotations", *(("annotations_instance",) if self.instances else ()))


def list_images(root: Path, split: str, instances: bool) -> list[RawImage]:
    """Raw files of a split, sorted by name.

    Raises:
        Ade20kError: if there is no image, or photographs, label maps and instance maps do not match.
        AmbiguousError: if two images share a name.
    """
    folder = root / "images" / split
    photographs = stems(folder, _PHOTOGRAPHS)
    if not photographs:
        raise Ade20kError(f"{folder} has no image ({', '.join(_PHOTOGRAPHS)}): unpack the archive again")
    labels = stems(root / "annotations" / split, (".png",))
    objects = stems(root / "annotations_instance" / split, (".png",)) if instances else {}
    _check_pairs(root, split, "annotations_instance", objects, "annotations", labels)
    _check_pairs(root, split, "images", photographs, "annotations", labels)
    _check_pairs(root, split, "annotations", labels, "images", photographs)
    if instances:
        _check_pairs(root, split, "images", photographs, "annotations_instance", objects)
    return [
        RawImage(
            stem,
            folder / name,
            root / "annotations" / split / labels[stem],
            root / "annotations_instance" / split / objects[stem] if instances else None,
        )
        for stem, name in photographs.items()
    ]


def _check_pairs(
    root: Path, split: str, part: str, present: Mapping[str, str], partner: str, partners: Mapping[str, str]
) -> None:
    """Whether every file of one folder has its partner in another one."""
    if lonely := unmatched(present, partners):
        stem, number = lonely
        ending = ".jpg" if partner == "images" else ".png"
        raise Ade20kError(
            f"{root / partner / split / stem}{ending} does not exist, but {root / part / split / present[stem]} does "
            f"({number:,} of {len(present):,} there are alone): the data were unpacked only in part, unpack the archive again"
        )


def prepare_image(raw: RawImage, table: ClassTable) -> PreparedImage:
    """Convert one image.

    Raises:
        Ade20kError: if sizes differ, a label is unknown, or an instance has no class or several.
        ImageError: if a file cannot be read.
    """
    height, width, photograph = read_photograph(raw)
    labels = read_labels(raw.labels)
    if labels.shape != (height, width):
        problem = size_problem(raw.labels, labels.shape, raw.image, (height, width))
        raise Ade20kError(f"{problem}: unpack both from the same archive")
    if int(labels.max()) > len(table.names):
        raise Ade20kError(
            f"{raw.labels} has label {int(labels.max())}, but the class table ends at {len(table.names)}: "
            "label maps and class table are not of the same release"
        )
    semantic = (labels.astype(np.uint8) - np.uint8(1)).astype(np.uint8)
    if raw.instances is None:
        return PreparedImage(height, width, {**photograph, "semantic": semantic})
    instances = read_instances(raw.instances, (height, width), table)
    stuff = [category.id for category in table.categories if not category.isthing]
    panoptic, segments = compose_panoptic(semantic, instances, stuff)
    annotations = [instance_annotation(instance) for instance in instances]
    return PreparedImage(
        height, width, {**photograph, "semantic": semantic, "panoptic": panoptic}, segments, annotations
    )


def read_instances(file: Path, size: tuple[int, int], table: ClassTable) -> list[Instance]:
    """Instances of an instance map in ascending order of their number.

    Raises:
        Ade20kError: if the size differs, or an instance has no class, an unknown one, or several.
    """
    channels = read_channels(file)
    if channels.shape[:2] != size:
        raise Ade20kError(
            f"{file} is {channels.shape[1::-1]}, its image is {size[::-1]}: unpack both from the same archive"
        )
    classes, numbers = channels[..., 0], channels[..., 1]
    instances = []
    for number in np.unique(numbers[numbers > 0]).tolist():
        mask = numbers == number
        found = np.unique(classes[mask]).tolist()
        if len(found) != 1:
            raise Ade20kError(f"{file}: instance {number} has classes {found}; every instance has exactly one")
        if found[0] not in table.instance_labels:
            raise Ade20kError(
                f"{file}: instance {number} has class {found[0]}, which is not among the "
                f"{len(table.instance_labels)} instance classes"
            )
        instances.append(Instance(table.instance_labels[found[0]] - 1, mask))
    return instances


def read_class_table(root: Path) -> ClassTable:
    """Class table of a raw folder.

    Raises:
        Ade20kError: if the tables are missing or contradict each other.
    """
    found = sorted(root.glob("objectInfo*.txt"))
    if len(found) != 1:
        raise Ade20kError(f"{root} has {len(found)} class tables (objectInfo*.txt), expected one")
    names: list[str] = []
    for line in read_text(found[0]).splitlines()[1:]:
        columns = line.split("\t")
        if not columns[0].strip().isdigit() or int(columns[0]) != len(names) + 1:
            raise Ade20kError(f"{found[0]}: row {len(names) + 1} starts with '{columns[0]}', expected {len(names) + 1}")
        names.append(columns[-1].strip())
    if not 0 < len(names) < OTHER:
        raise Ade20kError(f"{found[0]} has {len(names)} classes, expected 1…{OTHER - 1}")
    short = [name.split(",")[0].strip() for name in names]
    unique = [brief if short.count(brief) == 1 else name for brief, name in zip(short, names, strict=True)]
    own = root / INSTANCE_CLASSES
    if own.exists():
        return ClassTable(tuple(unique), _read_instance_classes(own, len(names)))
    packaged = packaged_table()
    if len(names) != len(packaged.names):
        raise Ade20kError(
            f"{found[0]} has {len(names)} classes, not ADE20K's {len(packaged.names)}: "
            f"write {own} with columns instance,label to say which classes have instances"
        )
    return ClassTable(tuple(unique), packaged.instance_labels)


def packaged_table() -> ClassTable:
    """ADE20K's 150 classes and 100 instance classes."""
    with _FACTS.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    labels = {int(row["instance"]): int(row["label"]) for row in rows if row["instance"]}
    return ClassTable(tuple(row["name"] for row in rows), labels)


def _read_instance_classes(file: Path, classes: int) -> dict[int, int]:
    labels: dict[int, int] = {}
    for row in csv.DictReader(read_text(file).splitlines()):
        try:
            instance, label = int(row["instance"]), int(row["label"])
        except (KeyError, TypeError, ValueError):
            raise Ade20kError(f"{file}: row {dict(row)} is not instance,label with two numbers") from None
        if not 1 <= label <= classes:
            raise Ade20kError(f"{file}: label {label} is not in the class table, which is 1…{classes}")
        if labels.setdefault(instance, label) != label:
            raise Ade20kError(f"{file}: instance class {instance} has two labels")
    return labels
