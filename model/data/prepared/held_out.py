"""A dataset whose training images are divided: most stay training images, the others are what networks are evaluated on.

The folder has the prepared form, so everything after preparation reads it as it reads any dataset: ``train`` are the images
that stay, ``val`` the held-out ones. Label maps are links into the folder of the whole dataset; tables and annotations name the
images of their part. The whole dataset's own validation images, which published numbers are about, are not in it at all.

An image's part follows from its name and the seed alone. So it is the same in every step, scenario, setting and class order, an
image that one step trains on is never evaluated after another, and images that are added later move no other image. Parts by
class would depend on the task and on all other images; of thousands of images, any part has every class that is not very rare.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from model.common.files import read_json, write_text
from model.common.own_folders import claim
from model.data.prepared.dataset import DATASET, PreparedDataset, write_dataset
from model.data.prepared.preparation import PREPARED
from model.data.prepared.raw_files import content_hash

WHOLE, STAYS, HELD_OUT = "train", "train", "val"
"""The split that is divided, and what its parts are called."""
_MAPS = ("semantic", "panoptic", "saliency")


class HeldOutError(ValueError):
    """A fraction that leaves no image to train on, or none to evaluate."""


def is_held_out(image: str, fraction: float, seed: int) -> bool:
    """Whether an image belongs to the held-out part."""
    digest = hashlib.sha256(f"{seed} {image}".encode()).digest()
    return int.from_bytes(digest[:8], "big") < fraction * 2**64


def hold_out(whole: Path, folder: Path, *, name: str, fraction: float, seed: int) -> tuple[int, int]:
    """Write a dataset with a validation part beside the whole one.

    Args:
        whole: folder of the whole dataset, in the prepared form.
        folder: to write; its links lead to ``whole`` by a relative path, so that both can be moved together.
        name: of the new dataset.
        fraction: of the training images that are held out, between 0 and 1.
        seed: another one holds other images out.

    Returns:
        Number of images that stay, and of those held out.

    Raises:
        HeldOutError: if a part is empty.
        FileError: if the whole dataset cannot be read.
        ForeignFolderError: if the folder holds files that Segue did not make.
    """
    dataset = PreparedDataset.open(whole)
    parts: dict[str, list[str]] = {STAYS: [], HELD_OUT: []}
    for record in dataset.records(WHOLE):
        parts[HELD_OUT if is_held_out(record.id, fraction, seed) else STAYS].append(record.id)
    for part, images in parts.items():
        if not images:
            raise HeldOutError(
                f"a validation fraction of {fraction} of {len(dataset.records(WHOLE))} training images of "
                f"'{dataset.name}' leaves none {'to train on' if part == STAYS else 'to evaluate'}; choose another fraction or "
                "seed"
            )
    claim(folder, PREPARED)
    (folder / DATASET).unlink(missing_ok=True)
    annotations: dict[str, str] = {}
    for part, images in parts.items():
        _link_maps(whole, folder, part)
        _write_table(whole, folder, part, set(images))
        if "panoptic" in dataset.tasks:
            annotations |= _write_annotations(dataset, folder, part, set(images))
    before = read_json(whole / DATASET)["content"]
    write_dataset(
        folder,
        name=name,
        categories=dataset.categories,
        background_id=dataset.background_id,
        void_id=dataset.void_id,
        tasks=dataset.tasks,
        splits=tuple(parts),
        background_is_labelled=dataset.background_is_labelled,
        content=_digest(before, parts),
        annotations=annotations,
    )
    return len(parts[STAYS]), len(parts[HELD_OUT])


def _link_maps(whole: Path, folder: Path, part: str) -> None:
    for kind in _MAPS:
        if not (whole / kind / WHOLE).is_dir():
            continue
        link = folder / kind / part
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(
            os.path.relpath((whole / kind / WHOLE).absolute(), link.parent.absolute()), target_is_directory=True
        )


def _write_table(whole: Path, folder: Path, part: str, images: set[str]) -> None:
    """The rows of some images; where a photograph lies is told from the new folder."""
    above = os.path.relpath(whole.absolute(), folder.absolute())
    table = io.StringIO()
    with (whole / f"{WHOLE}.csv").open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        writer = csv.DictWriter(table, reader.fieldnames or (), lineterminator="\n")
        writer.writeheader()
        for row in reader:
            if row["id"] in images:
                file = row["file"] if Path(row["file"]).is_absolute() else Path(above, row["file"]).as_posix()
                writer.writerow({**row, "file": file})
    write_text(folder / f"{part}.csv", table.getvalue())


def _write_annotations(dataset: PreparedDataset, folder: Path, part: str, images: set[str]) -> dict[str, str]:
    """COCO's files of some images; SHA-256 by name."""
    found = {}
    contents = {"panoptic": dataset.panoptic_annotations(WHOLE), "instances": dataset.instance_annotations(WHOLE)}
    for kind, content in contents.items():
        file = folder / f"{kind}_{part}.json"
        own = {
            "images": _some(content["images"], "id", images),
            "annotations": _some(content["annotations"], "image_id", images),
            "categories": content["categories"],
        }
        write_text(file, json.dumps(own, separators=(",", ":")) + "\n")
        found[file.name] = content_hash(file)
    return found


def _some(entries: Sequence[Mapping[str, Any]], key: str, images: set[str]) -> list[Mapping[str, Any]]:
    return [entry for entry in entries if entry[key] in images]


def _digest(before: str, parts: Mapping[str, Sequence[str]]) -> str:
    text = "\n".join([before, *(f"{part} {image}" for part, images in parts.items() for image in images)])
    return hashlib.sha256(text.encode()).hexdigest()
