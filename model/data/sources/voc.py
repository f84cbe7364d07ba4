"""PASCAL VOC 2012, semantic segmentation, with or without the additional labels that the field trains on ("aug").

Raw layout (``root`` may also be a folder that holds ``VOCdevkit/VOC2012`` or ``VOC2012``):

    JPEGImages/<name>.jpg
    SegmentationClass/<name>.png                   palette image, VOC's own labels
    SegmentationClassAug/<name>.png                grey image, VOC's and SBD's labels
    sbd/cls/<name>.mat                             SBD's labels as they were published
    ImageSets/Segmentation/{train,val}.txt         one name per line
    <saliency>/<name>.png                          optional: non-zero where the image is salient (SSUL)

Labels are 0 = background, 1…20 = class, 255 = void, and stay as they are. The augmented training set is all images that have a
label in VOC or SBD and are not in VOC's val: 10,582. It is listed by name, whatever order a list file has.

The subset ``laptop`` is 825 + 275 images of VOC's val, listed in ``voc_laptop.csv``; it needs no ``ImageSets``.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import Field
from scipy.io import loadmat
from scipy.io.matlab import MatReadError

from model.common.text_files import read_lines
from model.data.download import archives
from model.data.prepared.dataset import Category
from model.data.prepared.images import ImageError, read_labels, read_rgb
from model.data.prepared.manifest import PreparedSplit, write_prepared
from model.data.prepared.names import image_name
from model.data.prepared.preparation import (
    CONVERTED,
    PreparedImage,
    RawImage,
    prepare_split,
    read_photograph,
    size_problem,
)
from model.data.prepared.raw_files import RawInputs
from model.data.prepared.scaling import scaled_labels, scaled_photograph, scaled_size
from model.data.sources.class_orders import published_orders
from model.data.sources.colors import class_color
from model.data.sources.completeness import Count, stems, unmatched
from model.data.sources.folder import read_saliency

BACKGROUND, VOID = 0, 255
NAMES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
_THINGS = range(1, 21)
_OFFICIAL = {"aug": {"train": 10_582, "val": 1_449}, "sbd": {"train": 10_582, "val": 1_449}}
_OFFICIAL["voc"] = {"train": 1_464, "val": 1_449}
_PLACES = (".", "VOCdevkit/VOC2012", "VOC2012")
_SETS = "ImageSets/Segmentation"
_LISTS = ("train_aug.txt", "trainaug.txt")


class VocError(ValueError):
    """Raw data that break the layout; the message names the file, what was expected and the remedy."""


@dataclass(frozen=True)
class Voc:
    """Options of PASCAL VOC 2012.

    Attributes:
        root: folder that holds ``JPEGImages``, or one above it.
        labels: ``aug`` for the grey label maps of the augmented set, ``sbd`` for the same set from SBD's own files, ``voc``
            for VOC's own 1,464 training images.
        saliency: folder of saliency maps of the training images, in the one that holds ``JPEGImages``; None for none.
        subset: ``laptop`` for the images of the laptop benchmark, with VOC's own labels; None for all.
        long_side: images with a longer side than this are scaled down to it, in pixels; None leaves all as they are.
        download: whether the workflow fetches the official archives that are not there.
        complete: whether a part of the official images is an error; always so after a download.
    """

    root: str
    labels: Literal["aug", "sbd", "voc"] = "aug"
    saliency: str | None = None
    subset: Literal["laptop"] | None = None
    long_side: Annotated[int, Field(ge=32)] | None = None
    download: bool = False
    complete: bool = False

    def __post_init__(self) -> None:
        if self.subset is not None and self.labels != "voc":
            raise VocError(
                f"subset '{self.subset}' is labelled by VOC itself: write labels: voc instead of {self.labels}"
            )

    def categories(self) -> tuple[Category, ...]:
        """The twenty classes, ids 1…20."""
        return tuple(Category(k, name, k in _THINGS, class_color(k)) for k, name in enumerate(NAMES, start=1))

    def missing(self) -> list[str]:
        """What is not in the folder."""
        where, base = archives.where(*self._archives()), self._base()
        if not Path(self.root).is_dir():
            return [f"folder {self.root} does not exist: {where}"]
        lists = [] if self.subset else [self._list(split) for split in ("train", "val")]
        wanted = [base / "JPEGImages", *lists, *self._label_folders()]
        if self.saliency is not None:
            wanted.append(base / self.saliency)
        return [f"{path} does not exist: {where}" for path in wanted if not path.exists()]

    def inputs(self) -> RawInputs:
        """The folders, the lists, and the label maps, which say what is in the augmented set without a list."""
        base = self._base()
        lists = [self._list("train"), self._list("val"), *(base / _SETS / name for name in _LISTS)]
        lists = [] if self.subset else lists
        labels = [base / "SegmentationClass", *self._label_folders()]
        salient = [] if self.saliency is None else [base / self.saliency]
        return RawInputs((Path(self.root), *salient), [*filter(Path.is_file, lists)], [*dict.fromkeys(labels)])

    def downloads(self) -> Mapping[str, Path]:
        """Official archives that are asked for; none for a subset that lies in a folder of the user's."""
        own = self.subset is not None and not (self._base() / archives.FOLDER).exists() and not self.missing()
        return {} if own else dict.fromkeys(self._archives(), self._base()) if self.download else {}

    def counts(self) -> Sequence[Count]:
        """Images of each split."""
        if self.missing() or self.subset is not None:  # which names its images: each has to be there
            return ()
        folder = self._label_folders()[0]
        places = {"train": folder if self.labels != "voc" else self._list("train"), "val": self._list("val")}
        return [Count(places[s], len(self.names(s)), number) for s, number in _OFFICIAL[self.labels].items()]

    def orders(self, task: str) -> Mapping[str, Sequence[int]]:
        """Published class orders."""
        return published_orders("voc", task)

    def names(self, split: str) -> list[str]:
        """Names of the images of a split, sorted.

        Raises:
            VocError: if a list names no image.
        """
        if self.subset is not None:
            return _subset(self.subset)[split]
        if split == "val" or self.labels == "voc":
            return _read_list(self._list(split))
        for name in _LISTS:
            if (file := self._list("train").with_name(name)).is_file():
                return _read_list(file)
        folder = self._label_folders()[0]
        labelled = {*stems(folder, (".png", ".mat")), *(_read_list(self._list("train")))}
        return sorted(labelled - set(_read_list(self._list("val"))))

    def list_images(self, split: str) -> list[RawImage]:
        """Raw files of a split, sorted by name.

        Raises:
            VocError: if a listed image, its label map or its saliency map is missing.
        """
        base = self._base().resolve()
        photographs = stems(base / "JPEGImages", (".jpg",))
        own = stems(base / "SegmentationClass", (".png",))
        labels = {name: base / "SegmentationClass" / file for name, file in own.items()}
        if self.labels == "aug":
            folder = base / "SegmentationClassAug"
            labels |= {name: folder / file for name, file in stems(folder, (".png",)).items()}
        if self.labels == "sbd":  # where both have an image, VOC's own labels are better
            folder = base / "sbd" / "cls"
            labels = {name: folder / file for name, file in stems(folder, (".mat",)).items()} | labels
        names = self.names(split)
        _check_present(base / "JPEGImages", names, photographs, ".jpg")
        _check_present(self._label_folders()[0], names, labels, ".mat" if self.labels == "sbd" else ".png")
        salient: Mapping[str, Path] = {}
        if self.saliency is not None and split == "train":
            folder = base / self.saliency
            salient = {name: folder / file for name, file in stems(folder, (".png",)).items()}
            _check_present(folder, names, salient, ".png")
        return [
            RawImage(
                name,
                base / "JPEGImages" / photographs[name],
                labels[name],
                saliency=salient.get(name),
            )
            for name in names
        ]

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Write the prepared form of both splits."""
        prepared = {}
        for split in ("train", "val"):
            images = self.list_images(split)
            settings = {"labels": self.labels, "long_side": self.long_side}
            lines = prepare_split(
                folder, split, images, partial(prepare_image, long_side=self.long_side), settings, workers
            )
            prepared[split] = PreparedSplit(images, lines)
        write_prepared(
            folder,
            name=name,
            categories=self.categories(),
            background_id=BACKGROUND,
            void_id=VOID,
            tasks=("semantic",),
            splits=prepared,
            background_is_labelled=True,
        )

    def _base(self) -> Path:
        places = [Path(self.root) / place for place in _PLACES]
        return next((place for place in places if (place / "JPEGImages").is_dir()), Path(self.root))

    def _list(self, split: str) -> Path:
        return self._base() / _SETS / f"{split}.txt"

    def _label_folders(self) -> tuple[Path, ...]:
        """Folders of labels: first the one where the training images are found."""
        base, own = self._base(), self._base() / "SegmentationClass"
        return {"voc": (own,), "aug": (base / "SegmentationClassAug",), "sbd": (base / "sbd" / "cls", own)}[self.labels]

    def _archives(self) -> tuple[str, ...]:
        return ("voc2012", *{"voc": (), "aug": ("voc2012-aug",), "sbd": ("sbd",)}[self.labels])


def prepare_image(raw: RawImage, long_side: int | None = None) -> PreparedImage:
    """Convert one image.

    Args:
        raw: files of the image.
        long_side: a longer side than this is scaled down to it; None for no scaling.

    Raises:
        VocError: if sizes differ or a label is unknown.
        FolderError: if the saliency map has another size.
        ImageError: if a file cannot be read.
    """
    height, width, photograph = read_photograph(raw)
    labels = read_sbd(raw.labels) if raw.labels.suffix == ".mat" else read_labels(raw.labels)
    if labels.shape != (height, width):
        problem = size_problem(raw.labels, labels.shape, raw.image, (height, width))
        raise VocError(f"{problem}: unpack both from the same archive")
    counts = np.bincount(labels.ravel(), minlength=256)
    if strangers := [k for k in np.flatnonzero(counts).tolist() if k != VOID and k > len(NAMES)]:
        raise VocError(
            f"{raw.labels} has label {strangers[0]}; VOC has 0 (background), 1…{len(NAMES)} and {VOID} (void): unpack its "
            "archive again"
        )
    maps = {**photograph, "semantic": labels.astype(np.uint8)}
    if raw.saliency is not None:
        maps["saliency"] = read_saliency(raw.saliency, labels)
    size = scaled_size((height, width), long_side)
    if size != (height, width):
        maps = {part: scaled_labels(array, size) for part, array in maps.items() if part != CONVERTED}
        maps[CONVERTED] = scaled_photograph(photograph.get(CONVERTED, read_rgb(raw.image)), size)
    return PreparedImage(*size, maps)


def read_sbd(file: Path) -> np.ndarray:
    """(H, W) uint8 label map of one of SBD's files, which MATLAB wrote.

    Raises:
        ImageError: if the file is damaged or holds something else.
    """
    try:
        labels = np.asarray(loadmat(file, variable_names=["GTcls"])["GTcls"]["Segmentation"][0, 0])
    except (OSError, ValueError, TypeError, KeyError, IndexError, NotImplementedError, MatReadError) as error:
        raise ImageError(f"{file} is not one of SBD's label files ({error}): unpack its archive again") from error
    if labels.ndim != 2 or labels.dtype != np.uint8:
        raise ImageError(f"{file} holds a {labels.dtype} array of shape {labels.shape}, expected a label map")
    return labels


@cache
def _subset(name: str) -> Mapping[str, list[str]]:
    """Names of the images of each split of a subset, sorted."""
    with Path(__file__).with_name(f"voc_{name}.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    return {split: sorted(row["name"] for row in rows if row["split"] == split) for split in ("train", "val")}


def _read_list(file: Path) -> list[str]:
    names = sorted({image_name(line, file) for line in read_lines(file)})
    if not names:
        raise VocError(f"{file} names no image: unpack its archive again")
    return names


def _check_present(folder: Path, names: Sequence[str], present: Mapping[str, object], ending: str) -> None:
    if absent := unmatched(names, present):
        name, number = absent
        raise VocError(
            f"{folder / name}{ending} does not exist, but the image lists name it ({number:,} of {len(names):,} are "
            "missing): unpack its archive again"
        )
