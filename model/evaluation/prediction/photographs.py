"""Photographs to predict on: which files are meant, what their results are called, and reading them."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from model.data.prepared.images import ImageError, read_rgb

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
"""Files of a folder with these endings are taken for images."""


class PhotographError(ValueError):
    """Images that were asked for and are not there; the message names the place and what to do."""


@dataclass(frozen=True)
class Photograph:
    """One image.

    Attributes:
        name: of its results, unique among those asked for; it may have folders.
        file: where it lies.
    """

    name: str
    file: Path


def find_photographs(places: Sequence[str]) -> tuple[Photograph, ...]:
    """The images that a user means, sorted by name.

    Args:
        places: each a file, a folder (with all folders in it) or a pattern such as ``photos/*.jpg``, where ``**`` stands for any
            folders. A file that is named is taken whatever its ending.

    Raises:
        PhotographError: if a place does not exist or holds no image.
    """
    found: dict[Path, Path] = {}
    for place in places:
        for file, home in _of_place(place):
            found.setdefault(file.resolve(), file.relative_to(home))
    plain = {file: relative.with_suffix("").as_posix() for file, relative in found.items()}
    files = Counter(plain.values())
    names = {file: name if files[name] == 1 else found[file].as_posix() for file, name in plain.items()}
    if again := [name for name, count in Counter(names.values()).items() if count > 1]:
        raise PhotographError(
            f"two images would have results of the name '{again[0]}': predict the folders one by one, each into its own"
        )
    return tuple(sorted((Photograph(name, file) for file, name in names.items()), key=lambda one: one.name))


def _of_place(place: str) -> list[tuple[Path, Path]]:
    """Files that a place means, each with the folder that its name is relative to."""
    path = Path(place).expanduser()
    if not place.strip():
        raise PhotographError("no images are given: name a file, a folder or a pattern such as 'photos/*.jpg'")
    if path.is_file():
        return [(path, path.parent)]
    if path.is_dir():
        files = [(file, path) for file in sorted(path.rglob("*")) if _is_image(file, path)]
        if not files:
            raise PhotographError(f"{place} holds no image: expected files that end in {', '.join(SUFFIXES)}")
        return files
    matched = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    files = [(file, file.parent) for file in matched if file.is_file()]
    if not files:
        what = "no file matches" if glob.has_magic(place) else "there is no such file or folder"
        raise PhotographError(f"{place}: {what}; name images, a folder or a pattern such as 'photos/*.jpg'")
    return files


def _is_image(file: Path, home: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(home).parts)
    return file.suffix.lower() in SUFFIXES and file.is_file() and not hidden


class ReadPhotographs(Dataset[tuple[int, np.ndarray | str]]):
    """Photographs by number: the pixels as (H, W, 3) uint8 RGB, turned as the metadata say, or why they cannot be read."""

    def __init__(self, photographs: Sequence[Photograph]) -> None:
        self.photographs = photographs

    def __len__(self) -> int:
        return len(self.photographs)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray | str]:
        file = self.photographs[index].file
        try:
            pixels = read_rgb(file)
        except ImageError as error:
            return index, str(error)
        return index, pixels if pixels.flags.writeable else pixels.copy()


def within(image: np.ndarray, largest: int) -> np.ndarray:
    """The image, scaled down if its longer side exceeds a bound.

    Args:
        image: (H, W, 3) uint8.
        largest: pixels.
    """
    height, width = image.shape[:2]
    if max(height, width) <= largest:
        return image
    factor = largest / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
