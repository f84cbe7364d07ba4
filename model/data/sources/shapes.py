"""The embedded dataset ``shapes``: generated scenes in ADE20K's raw layout, prepared by ADE20K's own code.

Photographs are stored as PNG, not JPEG: decoders of JPEG differ in the last bit, and equal seeds are to give equal training.
An image depends on the seed, its split and its number alone; training and validation images share no random stream.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.common.files import read_json, write_json, write_text
from model.common.own_folders import remove_listed
from model.data.prepared.dataset import Category
from model.data.prepared.images import write_png
from model.data.prepared.preparation import in_parallel
from model.data.prepared.raw_files import RawInputs
from model.data.sources.ade20k import INSTANCE_CLASSES, SPLITS, Ade20k
from model.data.sources.colors import class_color
from model.data.sources.completeness import Unpublished
from model.data.sources.shape_scenes import ShapeClass, draw_scene, shape_classes

_PARTS = ("images", "annotations", "annotations_instance")
_STARTED, _COMPLETE = "options-started.json", "options.json"
"""Records of a generation: the options that files are being written with, and were written with."""
_STREAMS = {"train": 0, "val": 1}
_SHOWN = 2  # every class is in at least so many images, as far as there are images


@dataclass(frozen=True)
class Shapes(Unpublished):
    """Options of the generated dataset.

    Attributes:
        train_images, val_images: how many scenes.
        stuff, things: how many classes of either kind; ids alternate between the two.
        size: smallest and largest side in pixels, multiples of 8.
        seed: of the scenes; not that of the experiments.
    """

    train_images: int = 400
    val_images: int = 100
    stuff: int = 5
    things: int = 5
    size: Sequence[int] = (64, 96)
    seed: int = 0

    def __post_init__(self) -> None:
        shape_classes(self.stuff, self.things)
        if min(self.train_images, self.val_images) < 1:
            raise ValueError("shapes needs at least one training and one validation image")
        if len(self.size) != 2 or not 32 <= self.size[0] <= self.size[1] or any(side % 8 for side in self.size):
            raise ValueError(f"shapes.size = {list(self.size)}: expected two multiples of 8, at least 32, ascending")

    def categories(self) -> tuple[Category, ...]:
        """The class table: ids 0…K−1."""
        classes = shape_classes(self.stuff, self.things)
        return tuple(Category(k, c.name, c.isthing, class_color(k)) for k, c in enumerate(classes))

    def missing(self) -> list[str]:
        """Nothing: everything is generated."""
        return []

    def inputs(self) -> RawInputs:
        """None: everything is generated."""
        return RawInputs()

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Generate the raw layout in ``<folder>/raw`` and prepare it as ADE20K is prepared."""
        self.generate(folder / "raw", workers)
        Ade20k(str(folder / "raw")).prepare(folder, name, workers)

    def generate(self, root: Path, workers: int = 1) -> None:
        """Write the raw layout, unless it already exists with the same options."""
        stamp, started = root / _COMPLETE, root / _STARTED
        options = {**asdict(self), "size": list(self.size)}
        if (
            stamp.is_file()
            and read_json(stamp) == options
            and all((root / name).is_file() for name in _generated(self))
        ):
            return
        _clear(root)
        write_json(started, options)  # before the first scene: what is to be removed again is known from here on
        classes = shape_classes(self.stuff, self.things)
        presence = {}
        for split, number in (("train", self.train_images), ("val", self.val_images)):
            work = partial(_write_scene, root, split, classes, (self.size[0], self.size[1]), self.seed)
            presence[split] = np.array(list(in_parallel(work, range(number), workers)))
        write_text(root / f"objectInfo{len(classes)}.txt", _object_info(classes, presence))
        write_text(root / INSTANCE_CLASSES, _instance_classes(classes))
        write_json(stamp, options)


def scene_generator(seed: int, split: str, number: int) -> np.random.Generator:
    """The random stream of one scene."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAMS[split], number)))


def _clear(root: Path) -> None:
    """Remove what the record of an earlier generation lists: the layout is read by listing its folders."""
    for record in (root / _COMPLETE, root / _STARTED):
        if record.is_file():
            remove_listed(root, _generated(Shapes(**read_json(record))))
            record.unlink()


def _generated(options: Shapes) -> Iterator[str]:
    """Files that a generation writes, besides its records."""
    for split, number in (("train", options.train_images), ("val", options.val_images)):
        for stem in map(partial(_stem, split), range(number)):
            yield from (f"{part}/{SPLITS[split]}/{stem}.png" for part in _PARTS)
    yield from (f"objectInfo{options.stuff + options.things}.txt", INSTANCE_CLASSES)


def _stem(split: str, number: int) -> str:
    return f"ADE_{split}_{number + 1:08d}"


def _write_scene(
    root: Path, split: str, classes: tuple[ShapeClass, ...], size: tuple[int, int], seed: int, number: int
) -> np.ndarray:
    """Draw and write one scene; returns its (K,) pixel counts."""
    required = number % len(classes) if number < _SHOWN * len(classes) else None
    scene = draw_scene(classes, size, scene_generator(seed, split, number), required)
    stem = _stem(split, number)
    instances = np.concatenate([scene.instances, np.zeros_like(scene.instances[..., :1])], axis=-1)
    for part, pixels in zip(_PARTS, (scene.image, scene.labels, instances), strict=True):
        write_png(root / part / SPLITS[split] / f"{stem}.png", pixels)
    return np.bincount(scene.labels.ravel(), minlength=len(classes) + 1)[1:]


def _object_info(classes: tuple[ShapeClass, ...], presence: Mapping[str, np.ndarray]) -> str:
    """Class table as ADE20K has it: number, share of the pixels, training and validation images, name."""
    share = presence["train"].sum(axis=0) / presence["train"].sum()
    images = {split: (counts > 0).sum(axis=0) for split, counts in presence.items()}
    rows = [("Idx", "Ratio", "Train", "Val", "Name")]
    for k, kind in enumerate(classes):
        rows.append((str(k + 1), f"{share[k]:.4f}", str(images["train"][k]), str(images["val"][k]), kind.name))
    return "".join("\t".join(row) + "\n" for row in rows)


def _instance_classes(classes: tuple[ShapeClass, ...]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("instance", "label"))
    labels = [label for label, kind in enumerate(classes, start=1) if kind.isthing]
    writer.writerows(enumerate(labels, start=1))
    return stream.getvalue()
