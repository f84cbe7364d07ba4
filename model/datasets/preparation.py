"""Preparing many images: in parallel, with progress, and so that an interrupted run goes on where it stopped.

For every image a line with the sizes and times of its raw files, the hashes of what was written, and its annotations goes
into a journal. A later run keeps an image if its raw files are unchanged and the written files still have their hashes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from tqdm import tqdm

from model.datasets.images import one_thread_before_fork, write_png
from model.files import write_text

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class RawImage:
    """One image to prepare.

    Attributes:
        id: name in the prepared dataset.
        image: photograph.
        labels: raw label map.
        instances: raw instance map, if there is one.
        saliency: raw saliency map, if there is one.
    """

    id: str
    image: Path
    labels: Path
    instances: Path | None = None
    saliency: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All raw files."""
        return tuple(file for file in (self.image, self.labels, self.instances, self.saliency) if file is not None)


@dataclass(frozen=True)
class PreparedImage:
    """What preparing one image gives.

    Attributes:
        height, width: of the image.
        maps: arrays to write as PNG, by kind (``semantic``, ``panoptic``).
        segments: COCO panoptic ``segments_info``.
        instances: COCO instance annotations without ``id`` and ``image_id``.
    """

    height: int
    width: int
    maps: Mapping[str, Any]
    segments: Sequence[Mapping[str, Any]] = field(default=())
    instances: Sequence[Mapping[str, Any]] = field(default=())


def prepare_split(
    folder: Path,
    split: str,
    images: Sequence[RawImage],
    prepare_image: Callable[[RawImage], PreparedImage],
    settings: Mapping[str, Any],
    workers: int,
) -> list[dict[str, Any]]:
    """Prepare all images of a split.

    Args:
        folder: the prepared folder; maps go to ``<kind>/<split>/<id>.png``.
        split: e.g. ``train``.
        images: what to prepare, in the order of the result.
        prepare_image: picklable, called once an image, possibly in another process.
        settings: whatever else the result depends on; a journal made under other settings is not used.
        workers: processes.

    Returns:
        One journal line an image: ``id``, ``height``, ``width``, ``files`` {path: sha256}, ``segments``, ``instances``.
    """
    journal = folder / "journal" / f"{split}.jsonl"
    done = _kept_lines(folder, journal, images, settings)
    todo = [image for image in images if image.id not in done]
    journal.parent.mkdir(parents=True, exist_ok=True)
    header = json.dumps({"settings": settings}, sort_keys=True)
    write_text(journal, "".join(line + "\n" for line in (header, *map(json.dumps, done.values()))))
    work = partial(_prepare_one, folder, split, prepare_image)
    with (
        journal.open("a", encoding="utf-8") as stream,
        tqdm(total=len(images), initial=len(done), desc=f"preparing {split}", unit="image", disable=None) as progress,
    ):
        for line in in_parallel(work, todo, workers):
            stream.write(json.dumps(line) + "\n")
            done[line["id"]] = line
            progress.update()
    return [done[image.id] for image in images]


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterable[Result]:
    """Results in the order of the items, computed by processes where that pays."""
    if workers < 2 or len(items) < 64:  # starting processes takes longer than a few images
        yield from map(work, items)
        return
    one_thread_before_fork()
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, items, chunksize=8)


def write_manifest(folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write ``manifest.json``: how many images, segments and instances, and the hash of every written map."""
    content = {
        split: {
            "images": len(lines),
            "segments": sum(len(line["segments"]) for line in lines),
            "instances": sum(len(line["instances"]) for line in lines),
            "files": {name: digest for line in lines for name, digest in sorted(line["files"].items())},
        }
        for split, lines in splits.items()
    }
    write_text(folder / "manifest.json", json.dumps(content, indent=1) + "\n")


def _prepare_one(
    folder: Path, split: str, prepare_image: Callable[[RawImage], PreparedImage], raw: RawImage
) -> dict[str, Any]:
    result = prepare_image(raw)
    digests = {}
    for kind, array in result.maps.items():
        name = f"{kind}/{split}/{raw.id}.png"
        write_png(folder / name, array)
        digests[name] = _digest(folder / name)
    return {
        "id": raw.id,
        "raw": _state(raw),
        "height": result.height,
        "width": result.width,
        "files": digests,
        "segments": list(result.segments),
        "instances": list(result.instances),
    }


def _kept_lines(
    folder: Path, journal: Path, images: Sequence[RawImage], settings: Mapping[str, Any]
) -> dict[str, dict[str, Any]]:
    """Journal lines that still hold, by image id."""
    if not journal.exists():
        return {}
    header, *lines = journal.read_text(encoding="utf-8").splitlines() or [""]
    if header != json.dumps({"settings": settings}, sort_keys=True):
        return {}
    wanted = {image.id: image for image in images}
    kept = {}
    for text in lines:
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            break  # the run was interrupted while it wrote this line
        image = wanted.get(line["id"])
        if image is not None and line["raw"] == _state(image) and _intact(folder, line["files"]):
            kept[line["id"]] = line
    return kept


def _state(raw: RawImage) -> list[list[Any]]:
    """Name, size and time of the raw files; a file that is not there has neither."""
    states = []
    for file in raw.files:
        stat = file.stat() if file.exists() else None
        states.append([file.name, stat.st_size if stat else -1, stat.st_mtime_ns if stat else -1])
    return states


def _intact(folder: Path, files: Mapping[str, str]) -> bool:
    return all((folder / name).is_file() and _digest(folder / name) == digest for name, digest in files.items())


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
