"""Preparing many images: in parallel, with progress, and such that an interrupted run resumes where it stopped.

An image that cannot be prepared does not stop the others: their results are kept in the journal, so that only the repaired
image is done when preparation starts again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from model.common.files import read_json, write_json
from model.common.own_folders import claim
from model.common.progress_bar import progress_bar
from model.data.prepared.dataset import DATASET, ImageRecord
from model.data.prepared.images import is_turned, one_thread_before_fork, read_cmyk, read_rgb, write_png
from model.data.prepared.journal import Journal, JournalLines, Line
from model.data.prepared.names import image_name, refuse_repetition, split_name
from model.data.prepared.raw_files import confirmed, content_hash, file_state

Item = TypeVar("Item")
Result = TypeVar("Result")

_PROBLEMS = 10
"""So many images that cannot be prepared are enough to stop: more of them have one cause."""


CONVERTED = "images"
"""Folder of photographs that were converted to RGB."""
PREPARED = "a prepared dataset"
"""What the marker of a prepared folder says that it holds."""
JOURNALS, NOTES = "journal", "preparation.json"
"""Folder of the records of what was prepared, a file a split, and what is being prepared."""


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
    def files(self) -> dict[str, Path]:
        """All raw files, by what they are."""
        files = {"image": self.image, "labels": self.labels, "instances": self.instances, "saliency": self.saliency}
        return {part: file for part, file in files.items() if file is not None}

    @property
    def annotation_hash(self) -> str | None:
        """Digest of the annotation."""
        text = None if self.annotation is None else json.dumps(self.annotation, sort_keys=True)
        return None if text is None else hashlib.sha256(text.encode()).hexdigest()


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
        One journal line per image: ``id``, ``height``, ``width``, ``raw`` {part: state and hash of the raw file}, ``annotation``
        (its hash), ``files`` {path: sha256}, ``segments``, ``instances``.

    Raises:
        NameOfDataError: if a name leads out of its folder, or two images would get one name.
        PreparationError: if several images cannot be prepared; a single one raises its own error.
    """
    for image in images:
        if image_name(image.id, image.image) != image.id:
            raise PreparationError(f"{image.image}: '{image.id}' is not the plain name of an image")
    refuse_repetition(((image.id, image.labels) for image in images), split_name(split))
    wanted = {image.id: image for image in images}
    work = partial(_prepare_one, folder, split, prepare_image)
    problems: list[ValueError | OSError] = []
    notes = notes_of(folder)
    header = {"settings": settings, "code": notes.get("code", "")}
    confirm = partial(_confirm, folder, wanted, notes.get("verify", False))
    with Journal(journal_file(folder, split), header, confirm) as journal:
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


def begin(folder: Path, **notes: Any) -> None:
    """Make a prepared folder, and note what is about to be prepared.

    Args:
        folder: made if needed.
        notes: ``code`` that prepares, ``spec`` of the preparation, ``token`` and ``inputs`` of the raw data, and whether to
            ``verify`` the content of what looks unchanged.

    Raises:
        ForeignFolderError: if the folder holds files that Segue did not make.
    """
    claim(folder, PREPARED)
    write_json(folder / JOURNALS / NOTES, notes)


def notes_of(folder: Path) -> dict[str, Any]:
    """What :func:`begin` noted; nothing where it was not called."""
    file = folder / JOURNALS / NOTES
    return read_json(file) if file.is_file() else {}


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


def size_problem(map_file: Path, shape: Sequence[int], photograph: Path, size: Sequence[int]) -> str:
    """What to say about a map whose (height, width) is not that of its photograph, up to the remedy."""
    turned = ""
    if is_turned(photograph):
        turned = (
            " as its metadata rotate it, and as viewers show it; if the map was drawn on the stored image, remove the "
            "orientation from the metadata"
        )
    return f"{map_file} is {tuple(shape[1::-1])}, its image {photograph} is {tuple(size[1::-1])}{turned}"


def image_records(
    folder: Path, split: str, images: Sequence[RawImage], lines: Sequence[Mapping[str, Any]]
) -> Iterator[ImageRecord]:
    """The image table of a split: photographs stay where they are, but for those that had to be converted."""
    for image, line in zip(images, lines, strict=True):
        converted = f"{CONVERTED}/{split}/{image.id}.png"
        file = folder / converted if converted in line["files"] else image.image
        yield ImageRecord(image.id, file, line["height"], line["width"])


def journal_file(folder: Path, split: str) -> Path:
    """The record of what was prepared of a split."""
    return folder / JOURNALS / f"{split}.jsonl"


def _prepare_one(
    folder: Path, split: str, prepare_image: Callable[[RawImage], PreparedImage], raw: RawImage
) -> Line | ValueError | OSError:
    try:
        before = {part: file_state(file) for part, file in raw.files.items() if file.exists()}
        result = prepare_image(raw)
        hashes = {part: content_hash(file) for part, file in raw.files.items()}
        for part, file in raw.files.items():
            if before.get(part) != file_state(file):
                raise PreparationError(f"{file} was written while it was read: start again when nothing writes to it")
    except (ValueError, OSError) as error:
        return error
    (folder / DATASET).unlink(missing_ok=True)  # what it says was prepared does not hold any more
    digests = {}
    for kind, array in result.maps.items():
        name = f"{kind}/{split}/{raw.id}.png"
        write_png(folder / name, array, drawn=kind != CONVERTED)
        digests[name] = content_hash(folder / name)
    return {
        "id": raw.id,
        "raw": {part: [str(file), *before[part], hashes[part]] for part, file in raw.files.items()},
        "annotation": raw.annotation_hash,
        "height": result.height,
        "width": result.width,
        "turned": is_turned(raw.image),
        "files": digests,
        "segments": list(result.segments),
        "instances": list(result.instances),
    }


def _confirm(folder: Path, wanted: Mapping[str, RawImage], verify: bool, line: Line) -> Line | None:
    """A line of an earlier run if it is of a wanted image whose raw and written files have not changed."""
    image = wanted.get(line["id"])
    if image is None or line["raw"].keys() != image.files.keys() or line["annotation"] != image.annotation_hash:
        return None
    rows = {part: confirmed(line["raw"][part], file, verify) for part, file in image.files.items()}
    if None in rows.values():
        return None
    for name, known in line["files"].items():
        if not (folder / name).is_file() or content_hash(folder / name) != known:
            return None
    return {**line, "raw": rows}
