"""A folder of images and label maps: any data with a class list.

    classes.txt                 one class per line: ``id name``, or the name only (ids count from 0)
    train.txt, val.txt          one image name (without extension) per line
    <images>/<name>.jpg|.png    photographs
    <labels>/<name>.png         label maps, one channel or palette, 8 or 16 bit
    <instances>/<name>.png      optional: number of the instance, 0 = none, 8 or 16 bit
    <saliency>/<name>.png       optional: non-zero where the image is salient, one channel (SSUL)

All labels in the options are those of the raw label maps. Prepared ids are raw labels plus ``label_offset``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model.common.text_files import read_lines
from model.data.prepared.dataset import Category
from model.data.prepared.images import read_labels, read_rgb
from model.data.prepared.manifest import PreparedSplit, write_prepared
from model.data.prepared.names import image_name, split_name
from model.data.prepared.panoptic_form import Instance, compose_panoptic, instance_annotation
from model.data.prepared.preparation import PreparedImage, RawImage, prepare_split, size_problem
from model.data.prepared.raw_files import RawInputs
from model.data.sources.colors import class_color
from model.data.sources.completeness import Unpublished, stems

VOID = 255
_LARGEST = 65535
_SIZE = "sizes are (width, height); make both from the same original"
_PHOTOGRAPHS = (".jpg", ".jpeg", ".png")
_MAPS = (".png",)
_PARTS = ("images", "labels", "list", "instances", "saliency")


class FolderError(ValueError):
    """A folder or an option that does not fit; the message names the file or the option and the remedy."""


@dataclass(frozen=True)
class LabelRule:
    """How raw labels become prepared ids.

    Attributes:
        classes: prepared id of every raw class label.
        background: raw label of pixels without a class, None if every pixel has one.
        ignore: raw label of pixels that are never evaluated, None if there are none.
        offset: prepared id − raw label.
    """

    classes: Mapping[int, int]
    background: int | None
    ignore: int | None
    offset: int

    @property
    def background_id(self) -> int | None:
        """Prepared id of the background."""
        return None if self.background is None else self.background + self.offset

    @property
    def void_id(self) -> int | None:
        """Prepared id of pixels that are never evaluated."""
        return None if self.ignore is None else VOID

    def table(self) -> np.ndarray:
        """(65536,) int32: prepared id of every raw label, −1 where there is none."""
        table = np.full(65536, -1, dtype=np.int32)
        for raw, prepared in self.classes.items():
            table[raw] = prepared
        if self.background is not None:
            table[self.background] = self.background + self.offset
        if self.ignore is not None:
            table[self.ignore] = VOID
        return table


@dataclass(frozen=True)
class Folder(Unpublished):
    """Options of a folder dataset.

    Attributes:
        root: folder that the other paths are relative to.
        classes: file with the class list, or the list itself: names, or a mapping of raw label to name.
        splits: per split ``images``, ``labels``, ``list`` and optionally ``instances`` and ``saliency``: paths in
            ``root``. Defaults are ``images``, ``labels`` and ``<split>.txt`` for the splits ``train`` and ``val``.
        label_offset: added to raw labels; 1 where classes count from 0 and 0 is to stay free.
        ignore_label: raw label of pixels that are never evaluated.
        background_label: raw label of pixels that hold none of the classes, as seen by an annotator.
        things: names of countable classes; needed with instances.
    """

    root: str
    classes: str | Sequence[str] | Mapping[int, str] = "classes.txt"
    splits: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {"train": {}, "val": {}})
    label_offset: int = 0
    ignore_label: int | None = None
    background_label: int | None = None
    things: Sequence[str] = ()

    def __post_init__(self) -> None:
        for split, parts in self.splits.items():
            split_name(split)
            if unknown := sorted(set(parts) - set(_PARTS)):
                raise FolderError(f"splits.{split} has no key '{unknown[0]}' (known: {', '.join(_PARTS)})")
        with_instances = {split for split, parts in self.splits.items() if "instances" in parts}
        if with_instances and with_instances != set(self.splits):
            raise FolderError(f"only {sorted(with_instances)} have instances; give them for all splits or for none")
        if with_instances and not self.things:
            raise FolderError("with instances, the option 'things' has to name the countable classes: list them there")

    def categories(self) -> tuple[Category, ...]:
        """The class table, without background and ignored label."""
        names = self._names()
        if unknown := sorted(set(self.things) - set(names.values())):
            raise FolderError(f"things names '{unknown[0]}', which is not in the class list: correct one of the two")
        ids = self.label_rule(names).classes
        return tuple(
            Category(ids[raw], name, name in self.things, class_color(number))
            for number, (raw, name) in enumerate(sorted(names.items()))
        )

    def label_rule(self, names: Mapping[int, str]) -> LabelRule:
        """The rule that the options describe.

        Raises:
            FolderError: if two things would get one prepared id.
        """
        given = {"background_label": self.background_label, "ignore_label": self.ignore_label}
        for option, label in (*given.items(), *(("the class list", raw) for raw in names)):
            if label is not None and not 0 <= label <= _LARGEST:
                raise FolderError(f"{option} has {label}, but labels of 16-bit maps are 0…{_LARGEST}: correct it")
        ids = {raw: raw + self.label_offset for raw in names}
        rule = LabelRule(ids, self.background_label, self.ignore_label, self.label_offset)
        for what, label in (("background_label", rule.background_id), ("the ignored label", rule.void_id)):
            if label is not None and label in ids.values():
                raise FolderError(
                    f"class '{names[label - self.label_offset]}' and {what} would both be {label} in the prepared "
                    "labels; change label_offset"
                )
        if rule.background_id is not None and rule.background_id == rule.void_id:
            raise FolderError(f"background_label would become {VOID}, which is the ignored label; change label_offset")
        moved = [*ids.values(), *([] if rule.background_id is None else [rule.background_id])]
        if min(moved) < 0 or max(moved) > _LARGEST:
            raise FolderError(f"label_offset {self.label_offset} moves classes out of 0…{_LARGEST}: choose another")
        return rule

    def missing(self) -> list[str]:
        """Folders and lists that are not there."""
        root = Path(self.root)
        if not root.is_dir():
            return [f"folder {root} does not exist: correct the option 'root'"]
        wanted = [root / self.classes] if isinstance(self.classes, str) else []
        for split in self.splits:
            wanted += [root / self._part(split, part) for part in ("images", "labels", "list")]
        return [f"{path} does not exist" for path in dict.fromkeys(wanted) if not path.exists()]

    def inputs(self) -> RawInputs:
        """Folders, which options may lead out of ``root``; the class list and the lists of images."""
        root = Path(self.root)
        folders = [root / self._part(split, part) for split in self.splits for part in _PARTS if part != "list"]
        lists = [root / self._part(split, "list") for split in self.splits]
        lists += [root / self.classes] if isinstance(self.classes, str) else []
        return RawInputs(tuple(dict.fromkeys((root, *folders))), tuple(filter(Path.is_file, lists)))

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Write the prepared form of all splits."""
        categories, rule = self.categories(), self.label_rule(self._names())
        things = frozenset(category.id for category in categories if category.isthing)
        stuff = frozenset(category.id for category in categories) - things
        with_instances = any("instances" in parts for parts in self.splits.values())
        work = partial(prepare_image, rule=rule, things=things, stuff=stuff)
        settings: dict[str, Any] = {
            "classes": sorted(rule.classes.items()),
            "background": rule.background,
            "ignore": rule.ignore,
            "things": sorted(things),
        }
        prepared = {}
        for split in self.splits:
            images = self.list_images(split)
            prepared[split] = PreparedSplit(images, prepare_split(folder, split, images, work, settings, workers))
        write_prepared(
            folder,
            name=name,
            categories=categories,
            background_id=rule.background_id,
            void_id=rule.void_id,
            tasks=("semantic", "panoptic", "instance") if with_instances else ("semantic",),
            splits=prepared,
            background_is_labelled=rule.background is not None,
        )

    def list_images(self, split: str) -> list[RawImage]:
        """Raw files of a split, in the order of its list.

        Raises:
            FolderError: if the list is empty or names an image twice, or a file is missing.
            NameOfDataError: if a name leads out of its folder.
        """
        root = Path(self.root).resolve()
        source = root / self._part(split, "list")
        names = _listed(source)
        wanted = {part: self._part(split, part) for part in ("images", "labels")}
        wanted |= {part: self.splits[split][part] for part in ("instances", "saliency") if part in self.splits[split]}
        parts = {
            part: _Files(root / place, _PHOTOGRAPHS if part == "images" else _MAPS, source)
            for part, place in wanted.items()
        }
        return [
            RawImage(
                name,
                parts["images"][name],
                parts["labels"][name],
                parts["instances"][name] if "instances" in parts else None,
                parts["saliency"][name] if "saliency" in parts else None,
            )
            for name in names
        ]

    def _part(self, split: str, part: str) -> str:
        return self.splits[split].get(part, f"{split}.txt" if part == "list" else part)

    def _names(self) -> dict[int, str]:
        """Class names by raw label, without background and ignored label."""
        if isinstance(self.classes, str):
            names = _read_classes(Path(self.root) / self.classes)
        elif isinstance(self.classes, Mapping):
            names = {int(raw): str(name) for raw, name in self.classes.items()}
        else:
            names = dict(enumerate(self.classes))
        kept = {raw: name for raw, name in names.items() if raw not in (self.background_label, self.ignore_label)}
        if not kept:
            raise FolderError("the class list has no class besides background and ignored label")
        return kept


def prepare_image(raw: RawImage, rule: LabelRule, things: frozenset[int], stuff: frozenset[int]) -> PreparedImage:
    """Convert one image.

    Raises:
        FolderError: if sizes differ, a label is not in the class list, or an instance is not of exactly one thing class.
        ImageError: if a file cannot be read.
    """
    # Decoded as a whole: a truncated photograph is found now and not in the middle of training.
    height, width = read_rgb(raw.image).shape[:2]
    labels = read_labels(raw.labels)
    if labels.shape != (height, width):
        raise FolderError(f"{size_problem(raw.labels, labels.shape, raw.image, (height, width))}: {_SIZE}")
    prepared = rule.table()[labels]
    if prepared.min() < 0:
        raise FolderError(
            f"{raw.labels} has label {int(labels[prepared < 0][0])}, which is neither in the class list nor "
            "background_label nor ignore_label: add it there, or correct the map"
        )
    semantic = prepared.astype(np.uint8 if prepared.max() < 256 else np.uint16)
    maps = {"semantic": semantic}
    if raw.saliency is not None:
        maps["saliency"] = read_saliency(raw.saliency, semantic)
    if raw.instances is None:
        return PreparedImage(height, width, maps)
    instances = _read_instances(raw.instances, semantic, rule, things)
    panoptic, segments = compose_panoptic(semantic, instances, stuff)
    annotations = [instance_annotation(instance) for instance in instances]
    return PreparedImage(height, width, {**maps, "panoptic": panoptic}, segments, annotations)


def read_saliency(file: Path, semantic: np.ndarray) -> np.ndarray:
    """(H, W) uint8 saliency map, 255 where the image is salient.

    Raises:
        FolderError: if it has another size than the label map.
        ImageError: if it cannot be read.
    """
    saliency = read_labels(file)
    if saliency.shape != semantic.shape:
        raise FolderError(f"{file} is {saliency.shape[::-1]}, its image is {semantic.shape[::-1]}: {_SIZE}")
    return np.where(saliency > 0, 255, 0).astype(np.uint8)


def _read_instances(file: Path, semantic: np.ndarray, rule: LabelRule, things: frozenset[int]) -> list[Instance]:
    numbers = read_labels(file)
    if numbers.shape != semantic.shape:
        raise FolderError(f"{file} is {numbers.shape[::-1]}, its image is {semantic.shape[::-1]}: {_SIZE}")
    instances = []
    for number in np.unique(numbers).tolist():
        if number in (0, rule.ignore):
            continue
        mask = numbers == number
        found = np.unique(semantic[mask]).tolist()
        if len(found) != 1 or found[0] not in things:
            raise FolderError(
                f"{file}: instance {number} covers labels {found}; expected exactly one thing class: "
                "give each part a number of its own"
            )
        instances.append(Instance(found[0], mask))
    return instances


def _read_classes(file: Path) -> dict[int, str]:
    try:
        lines = read_lines(file)
    except FileNotFoundError:
        raise FolderError(f"{file} does not exist; it has one class per line: id and name, or the name only") from None
    rows = [line.split(maxsplit=1) for line in lines]
    numbered = [row[0].isdigit() and len(row) > 1 for row in rows]
    if any(numbered) and not all(numbered):
        raise FolderError(f"{file}: line {numbered.index(False) + 1} has no id, others have one: number all or none")
    names = {int(row[0]): row[1] for row in rows} if all(numbered) else dict(enumerate(lines))
    if len(names) != len(rows) or len(set(names.values())) != len(rows):
        raise FolderError(f"{file} has an id or a name twice: list every class once")
    return names


def _listed(file: Path) -> list[str]:
    """Names of a list, one a line; they may lie in folders and hold blanks."""
    lines: dict[str, str] = {}
    for line in read_lines(file):
        name = image_name(line, file)
        if name in lines:
            both = f"'{line}'" if line == lines[name] else f"'{line}', which is '{lines[name]}',"
            raise FolderError(f"{file} names {both} twice: remove a line")
        lines[name] = line
    if not lines:
        raise FolderError(f"{file} names no image: write one name per line, without extension")
    return list(lines)


class _Files(dict[str, Path]):
    """Files of a folder and the folders in it by name without ending; each folder is listed once."""

    def __init__(self, folder: Path, endings: Sequence[str], source: Path) -> None:
        self._folder, self._endings, self._source = folder, endings, source
        self._stems: dict[str, dict[str, str]] = {}

    def __missing__(self, name: str) -> Path:
        inner, _, stem = name.rpartition("/")
        if inner not in self._stems:
            self._stems[inner] = stems(self._folder / inner, self._endings)
        if stem not in self._stems[inner]:
            raise FolderError(
                f"{self._folder / name}({'|'.join(self._endings)}) does not exist, but {self._source} names it: copy it, or "
                "remove the name"
            )
        return self._folder / inner / self._stems[inner][stem]
