"""Preparing many images: in parallel, with progress, and so that an interrupted run goes on where it stopped.

An image that cannot be prepared does not stop the others: what they give is kept in the journal, so that only the image that
was repaired is done when preparing starts again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from model.common.files import write_text
from model.common.own_folders import read_marker, remove_listed
from model.common.progress_bar import progress_bar
from model.data.prepared.dataset import ImageRecord
from model.data.prepared.images import one_thread_before_fork, read_cmyk, read_rgb, write_png
from model.data.prepared.journal import Journal, JournalLines, Line, digest, earlier_lines

Item = TypeVar("Item")
Result = TypeVar("Result")

_PROBLEMS = 10
"""So many images that cannot be prepared are enough to stop: more of them have one cause."""


CONVERTED = "images"
"""Folder of photographs that were converted to RGB."""
PREPARED = "a prepared dataset"
"""What the marker of a prepared folder says that it holds."""
JOURNALS = "journal"
"""Folder of the records of what was prepared, a file a split."""


class PreparationError(ValueError):
    """Images that cannot be prepared; the message names their files."""


@dataclass(frozen=True)
class RawImage:
    """One image to prepare.

    Attributes:
        id: name in the prepared dataset.
        image: photograph.
        labels: raw label map.
        instances: raw instance map, if there is one.
        saliency: raw saliency map, if there is one.
        annotation: what is known about the image from elsewhere, such as its entry in a JSON file; JSON can express it.
    """

    id: str
    image: Path
    labels: Path
    instances: Path | None = None
    saliency: Path | None = None
    annotation: Any = None

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
) -> JournalLines:
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

    Raises:
        PreparationError: if several images cannot be prepared; a single one raises its own error.
    """
    wanted = {image.id: image for image in images}
    work = partial(_prepare_one, folder, split, prepare_image)
    problems: list[ValueError | OSError] = []
    header = {"settings": settings, "code": (read_marker(folder, PREPARED) or {}).get("code", "")}
    holds, discard = partial(_holds, folder, wanted), partial(_discard, folder)
    with Journal(folder / JOURNALS / f"{split}.jsonl", header, holds, discard) as journal:
        todo = [image for image in images if image.id not in journal]
        with (
            progress_bar(len(images), f"preparing {split}", "image", start=len(journal)) as progress,
            closing(in_parallel(work, todo, workers)) as results,
        ):
            for result in results:
                if isinstance(result, (ValueError, OSError)):
                    problems.append(result)
                    if len(problems) == _PROBLEMS:
                        break
                else:
                    journal.add(result)
                    progress.update()
        if len(problems) == 1:
            raise problems[0]
        if problems:
            number = len(problems) if len(problems) < _PROBLEMS else f"at least {_PROBLEMS}"
            raise PreparationError(
                f"{number} of {len(images):,} images of split '{split}' cannot be prepared (what is done is kept): "
                f"{'; '.join(map(str, problems))}"
            )
        return journal.lines([image.id for image in images])


def in_parallel(work: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Generator[Result, None, None]:
    """Results in the order of the items, computed by processes where that pays.

    Raises:
        PreparationError: if a process is killed from outside.
    """
    if workers < 2 or len(items) < 64:  # starting processes takes longer than a few images
        yield from map(work, items)
        return
    one_thread_before_fork()
    pool = ProcessPoolExecutor(workers)
    try:
        yield from pool.map(work, items, chunksize=8)
    except BrokenProcessPool:
        raise PreparationError(
            f"one of {workers} processes was killed, probably because memory ran out: start again with fewer cores; what "
            "is done is kept"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def read_photograph(raw: RawImage) -> tuple[int, int, dict[str, Any]]:
    """Height and width of a published photograph, and, if it is one of the few in CMYK, what it is in RGB, to be written.

    It is decoded altogether: a truncated photograph is found now and not in the middle of a training.

    Raises:
        ImageError: if the file cannot be read.
    """
    pixels = read_cmyk(raw.image)
    if pixels is not None:
        return *pixels.shape[:2], {CONVERTED: pixels}
    return *read_rgb(raw.image).shape[:2], {}


def image_records(
    folder: Path, split: str, images: Sequence[RawImage], lines: Sequence[Mapping[str, Any]]
) -> Iterator[ImageRecord]:
    """The image table of a split: photographs stay where they are, but for those that had to be converted."""
    for image, line in zip(images, lines, strict=True):
        converted = f"{CONVERTED}/{split}/{image.id}.png"
        file = folder / converted if converted in line["files"] else image.image
        yield ImageRecord(image.id, file, line["height"], line["width"])


def write_manifest(folder: Path, splits: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Write ``manifest.json``: how many images, segments and instances, and the hash of every written map.

    What was prepared of other splits is removed.
    """
    forget_other_splits(folder, splits)
    content: dict[str, dict[str, Any]] = {}
    for split, lines in splits.items():
        entry = content[split] = {"images": len(lines), "segments": 0, "instances": 0, "files": {}}
        for line in lines:
            entry["segments"] += len(line["segments"])
            entry["instances"] += len(line["instances"])
            entry["files"].update(sorted(line["files"].items()))
    write_text(folder / "manifest.json", json.dumps(content, indent=1) + "\n")


def _prepare_one(
    folder: Path, split: str, prepare_image: Callable[[RawImage], PreparedImage], raw: RawImage
) -> Line | ValueError | OSError:
    try:
        result = prepare_image(raw)
    except (ValueError, OSError) as error:
        return error
    digests = {}
    for kind, array in result.maps.items():
        name = f"{kind}/{split}/{raw.id}.png"
        write_png(folder / name, array, drawn=kind != CONVERTED)
        digests[name] = digest(folder / name)
    return {
        "id": raw.id,
        "raw": _state(raw),
        "height": result.height,
        "width": result.width,
        "files": digests,
        "segments": list(result.segments),
        "instances": list(result.instances),
    }


def _holds(folder: Path, wanted: Mapping[str, RawImage], line: Line) -> bool:
    """Whether a line of an earlier run is of a wanted image whose raw and written files have not changed."""
    image = wanted.get(line["id"])
    if image is None or line["raw"] != _state(image):
        return False
    return all((folder / name).is_file() and digest(folder / name) == known for name, known in line["files"].items())


def _discard(folder: Path, line: Line) -> None:
    remove_listed(folder, line["files"])


def forget_other_splits(folder: Path, splits: Collection[str]) -> None:
    """Remove what was prepared of splits that the dataset does not have any more, by what their journals list."""
    for journal in (folder / JOURNALS).glob("*.jsonl"):
        if (split := journal.stem) not in splits:
            for line in earlier_lines(journal):
                _discard(folder, line)
            tables = f"{split}.csv", f"panoptic_{split}.json", f"instances_{split}.json"
            remove_listed(folder, (*tables, f"{JOURNALS}/{journal.name}"))


def _state(raw: RawImage) -> list[list[Any]]:
    """Name, size and time of the raw files; a file that is not there has neither. The hash of an annotation."""
    states: list[list[Any]] = []
    for file in raw.files:
        stat = file.stat() if file.exists() else None
        states.append([file.name, stat.st_size if stat else -1, stat.st_mtime_ns if stat else -1])
    if raw.annotation is not None:
        text = json.dumps(raw.annotation, sort_keys=True)
        states.append(["annotation", hashlib.sha256(text.encode()).hexdigest()])
    return states
