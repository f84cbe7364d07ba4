"""Prepared datasets, as they are after a step, in detectron2's standard format and in its catalogues.

detectron2's evaluators read annotations from files and know one treatment each of pixels and segments that belong to none of
the classes. So the annotations are written once more, by the rules of an evaluation protocol, and the evaluators then count
what ours count (``docs/checkpoints.md`` lists what cannot be expressed).

Contiguous ids, as detectron2 calls its class numbers, are places in the learning order: from 1 in semantic segmentation, where
0 is the background or nothing, and from 0 where segments or objects are predicted.

Source: detectron2's documentation of its dataset interface.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from model.common.files import write_json
from model.common.own_folders import claim
from model.data.prepared.dataset import Category, ImageRecord, PreparedDataset
from model.data.prepared.images import write_png
from model.evaluation.evaluators.mask_instance import evaluated_images
from model.evaluation.evaluators.mask_panoptic import true_segments
from model.evaluation.evaluators.pictures import nothing
from model.evaluation.protocols import Protocol, get
from model.interop.detectron2 import Detectron2Error, imported

HOLDS = "annotations for detectron2"
XYWH = 1
"""``BoxMode.XYWH_ABS``."""

Entry = dict[str, Any]


def register(
    name: str,
    dataset: PreparedDataset,
    split: str,
    task: str,
    seen: Sequence[int],
    folder: Path,
    protocol: str = "segue",
) -> None:
    """Enter a split, as it is after a step, into ``DatasetCatalog`` and ``MetadataCatalog``.

    Args:
        name: in the catalogues.
        dataset, split, task, seen, folder: of :func:`standard_form`.
        protocol: name of the evaluation protocol.

    Raises:
        Detectron2Error: if detectron2 is not installed, or the name is taken.
        ValueError: as :func:`standard_form`.
    """
    catalogues = imported("data")
    if name in catalogues.DatasetCatalog.list():
        raise Detectron2Error(f"detectron2's catalogue has a dataset '{name}' already; choose another name")
    entries, facts = standard_form(dataset, split, task, seen, folder, get(protocol))
    catalogues.DatasetCatalog.register(name, lambda: entries)
    catalogues.MetadataCatalog.get(name).set(**facts)


def standard_form(
    dataset: PreparedDataset, split: str, task: str, seen: Sequence[int], folder: Path, protocol: Protocol
) -> tuple[list[Entry], dict[str, Any]]:
    """Write the annotations of a split, and describe them as detectron2's catalogues want it.

    Args:
        dataset: prepared.
        split: e.g. ``val``.
        task: semantic, panoptic or instance.
        seen: category ids learnt so far, in learning order.
        folder: for label maps or annotations, a new or an empty one, or one of an earlier call.
        protocol: which images are evaluated, and what becomes of classes that are not learnt and of the background.

    Returns:
        An entry for each image, and the metadata.

    Raises:
        Detectron2Error: for a protocol that compares at another size than the original one.
        ForeignFolderError: if the folder holds files of somebody else.
        PreparedDatasetError: if the dataset has no annotation for the task.
    """
    dataset.classes(task)
    if protocol.geometry.kind != "full" and task == "semantic":
        raise Detectron2Error(
            f"protocol '{protocol.name}' compares label maps at {protocol.geometry.size} pixels, detectron2 at the original "
            "size; choose a protocol that does so too, such as 'segue'"
        )
    claim(folder, HOLDS)
    write = {"semantic": _semantic, "panoptic": _panoptic, "instance": _instances}[task]
    entries, places = write(dataset, split, seen, folder.resolve(), protocol)
    return entries, {**_classes(dataset, task, seen, protocol), **places}


def _entry(record: ImageRecord) -> Entry:
    return {
        "file_name": str(record.file),
        "height": record.height,
        "width": record.width,
        "image_id": record.id,
    }


def _classes(dataset: PreparedDataset, task: str, seen: Sequence[int], protocol: Protocol) -> dict[str, Any]:
    """Names, colours and numbers of the classes, under the names that catalogues, evaluators and visualiser look for."""
    known = {category.id: category for category in dataset.categories}
    listed = [known[category] for category in seen]
    if task == "semantic":
        return {**_named("stuff", [_background(dataset), *listed]), "ignore_label": _ignored(seen)}
    things = _named("thing", listed)
    if task == "instance":
        return things
    # The visualiser looks up every class in both lists, the evaluator tells things by their numbers alone.
    countable = {one.id: place for place, one in enumerate(listed) if one.isthing}
    return {**things, **_named("stuff", listed), "thing_dataset_id_to_contiguous_id": countable}


def _named(kind: str, categories: Sequence[Category]) -> dict[str, Any]:
    return {
        f"{kind}_classes": [one.name for one in categories],
        f"{kind}_colors": [list(one.color) for one in categories],
        f"{kind}_dataset_id_to_contiguous_id": {one.id: place for place, one in enumerate(categories)},
    }


def _background(dataset: PreparedDataset) -> Category:
    name = "background" if dataset.background_id is not None else "nothing"
    return Category(nothing(dataset), name, False, (0, 0, 0))


def _ignored(seen: Sequence[int]) -> int:
    """The value of pixels that are not evaluated; maps of many classes have 16 bits."""
    return 255 if len(seen) < 255 else 65535


def _semantic(
    dataset: PreparedDataset, split: str, seen: Sequence[int], folder: Path, protocol: Protocol
) -> tuple[list[Entry], dict[str, Any]]:
    table = label_table(dataset, seen, protocol)
    entries = []
    for record in dataset.records(split):
        labels = table[dataset.read_semantic(split, record)]
        if protocol.images == "seen" and not ((labels > 0) & (labels != _ignored(seen))).any():
            continue
        file = folder / "labels" / f"{record.id}.png"
        write_png(file, labels)
        entries.append({**_entry(record), "sem_seg_file_name": str(file)})
    return entries, {}


def label_table(dataset: PreparedDataset, seen: Sequence[int], protocol: Protocol) -> np.ndarray:
    """(65536,) uint8 or uint16: the contiguous id of every raw label, by a protocol's treatment of what is no learnt class."""
    policy, ignored = protocol.background_policy(dataset.background_is_labelled), _ignored(seen)
    table = np.full(65536, ignored, dtype=np.uint8 if ignored == 255 else np.uint16)
    if policy.future_classes == "background":
        table[list(dataset.category_ids)] = 0
    if policy.background_pixels == "count" and dataset.background_id is not None:
        table[dataset.background_id] = 0
    table[list(seen)] = range(1, len(seen) + 1)
    return table


def _panoptic(
    dataset: PreparedDataset, split: str, seen: Sequence[int], folder: Path, protocol: Protocol
) -> tuple[list[Entry], dict[str, Any]]:
    place = {category: position for position, category in enumerate(seen)}
    kept = {*(dataset.category_ids if protocol.unseen_segments == "keep" else seen)}
    countable = {category.id for category in dataset.categories if category.isthing}
    document = dataset.panoptic_annotations(split)
    annotated = {str(one["image_id"]): one["segments_info"] for one in document["annotations"]}
    entries, annotations = [], []
    for record in dataset.records(split):
        ids = dataset.read_panoptic(split, record)
        values, counts = np.unique(ids, return_counts=True)
        pixels = dict(zip(values.tolist(), counts.tolist(), strict=True))
        true = true_segments(annotated.get(record.id, ()), ids, protocol.segment_areas == "annotation")
        area = {one.id: pixels[one.id] if one.area is None else one.area for one in true}
        listed = [
            {**one, "area": area[one["id"]]}
            for one in annotated.get(record.id, ())
            if one["id"] in area and one["category_id"] in kept
        ]
        learnt = [one for one in listed if one["category_id"] in place]
        if protocol.images == "seen" and not learnt:
            continue
        if protocol.unseen_segments == "void":
            ids = np.where(np.isin(ids, [one["id"] for one in listed]), ids, 0)
        file = folder / "panoptic" / f"{record.id}.png"
        write_png(file, np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8), drawn=True)
        annotations.append({"image_id": record.id, "file_name": f"{record.id}.png", "segments_info": listed})
        segments = [
            {**one, "category_id": place[one["category_id"]], "isthing": one["category_id"] in countable}
            for one in learnt
        ]
        entries.append({**_entry(record), "pan_seg_file_name": str(file), "segments_info": segments})
    file = folder / "panoptic.json"
    _write(file, entries, annotations, [one for one in dataset.categories if one.id in kept])
    return entries, {"panoptic_json": str(file), "panoptic_root": str(folder / "panoptic")}


def _instances(
    dataset: PreparedDataset, split: str, seen: Sequence[int], folder: Path, protocol: Protocol
) -> tuple[list[Entry], dict[str, Any]]:
    place = {category: position for position, category in enumerate(seen)}
    annotated = dataset.instance_annotations(split)["annotations"]
    records = evaluated_images(dataset.records(split), annotated, seen, protocol.images == "seen")
    found: dict[str, Entry] = {record.id: {**_entry(record), "annotations": []} for record in records}
    objects = [one for one in annotated if one["category_id"] in place and str(one["image_id"]) in found]
    for one in objects:
        kept = {key: one[key] for key in ("segmentation", "bbox", "iscrowd") if key in one}
        entry = {**kept, "bbox_mode": XYWH, "category_id": place[one["category_id"]]}
        found[str(one["image_id"])]["annotations"].append(entry)
    file, entries = folder / "instances.json", list(found.values())
    numbered = [{**one, "id": number, "image_id": str(one["image_id"])} for number, one in enumerate(objects, start=1)]
    _write(file, entries, numbered, [one for one in dataset.categories if one.id in place])
    return entries, {"json_file": str(file)}


def _write(file: Path, entries: Sequence[Entry], annotations: Sequence[Entry], categories: Sequence[Category]) -> None:
    images = [
        {
            "id": one["image_id"],
            "file_name": Path(one["file_name"]).name,
            "height": one["height"],
            "width": one["width"],
        }
        for one in entries
    ]
    classes = [
        {"id": one.id, "name": one.name, "isthing": int(one.isthing), "color": list(one.color)} for one in categories
    ]
    write_json(file, {"info": {}, "images": images, "annotations": list(annotations), "categories": classes})
