"""Segments and instances in COCO's form, from a semantic map and the masks of its instances."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from model.common.files import atomic_file
from model.data.prepared.dataset import Category


@dataclass(frozen=True)
class Instance:
    """One object of an image: category id and (H, W) bool mask."""

    category: int
    mask: np.ndarray


def box(mask: np.ndarray) -> list[int]:
    """``[x, y, width, height]`` of a mask with at least one pixel."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, left = int(rows[0]), int(columns[0])
    return [left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1]


def compose_panoptic(
    semantic: np.ndarray, instances: Sequence[Instance], stuff: Collection[int]
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Paint stuff, then instances over it.

    Every stuff class of the semantic map is one segment, every instance is one; later instances cover earlier ones. Area and
    box describe the mask as given, so a stuff segment counts pixels that an instance covers, and may be covered altogether.
    Thing pixels without an instance stay void. Segment ids are 1, 2, …: stuff by category id, then instances in order.

    Source: the rules of ADE20K's panoptic conversion, with deterministic ids.

    Args:
        semantic: (H, W) category ids.
        instances: in painting order.
        stuff: category ids of stuff.

    Returns:
        (H, W, 3) uint8 RGB map with id = R + 256·G + 65536·B, and ``segments_info``.
    """
    ids = np.zeros(semantic.shape, dtype=np.int32)
    segments = []
    masks = [(category, semantic == category) for category in np.unique(semantic).tolist() if category in stuff]
    for number, (category, mask) in enumerate([*masks, *((i.category, i.mask) for i in instances)], start=1):
        ids[mask] = number
        segments.append(
            {"id": number, "category_id": category, "area": int(mask.sum()), "bbox": box(mask), "iscrowd": 0}
        )
    encoded = np.stack([ids & 255, (ids >> 8) & 255, (ids >> 16) & 255], axis=-1).astype(np.uint8)
    return encoded, segments


def instance_annotation(instance: Instance) -> dict[str, Any]:
    """A COCO annotation without ``id`` and ``image_id``; the mask as compressed RLE."""
    encoded = coco_mask.encode(np.asfortranarray(instance.mask.astype(np.uint8)))
    return {
        "category_id": instance.category,
        "segmentation": {"size": [int(n) for n in encoded["size"]], "counts": encoded["counts"].decode("ascii")},
        "area": int(coco_mask.area(encoded)),
        "bbox": box(instance.mask),
        "iscrowd": 0,
    }


def write_annotations(
    folder: Path, split: str, categories: Sequence[Category], lines: Sequence[Mapping[str, Any]]
) -> tuple[Path, Path]:
    """Write ``panoptic_<split>.json`` and ``instances_<split>.json`` from the lines of the preparation, one at a time."""
    table = [{"id": c.id, "name": c.name, "isthing": int(c.isthing), "color": list(c.color)} for c in categories]
    panoptic = (
        {"image_id": line["id"], "file_name": f"{line['id']}.png", "segments_info": line["segments"]} for line in lines
    )
    annotations = ({"image_id": line["id"], **annotation} for line in lines for annotation in line["instances"])
    instances = ({"id": number, **annotation} for number, annotation in enumerate(annotations, start=1))
    things = [row for row in table if row["isthing"]]
    files = folder / f"panoptic_{split}.json", folder / f"instances_{split}.json"
    _write_lists(files[0], images=_images(lines), annotations=panoptic, categories=table)
    _write_lists(files[1], images=_images(lines), annotations=instances, categories=things)
    return files


def _images(lines: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    return (
        {"id": line["id"], "file_name": f"{line['id']}.png", "height": line["height"], "width": line["width"]}
        for line in lines
    )


def _write_lists(file: Path, **lists: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON object of lists, an entry at a time: COCO's annotation would fill gigabytes of memory as objects."""
    with atomic_file(file) as stream:
        for number, (key, entries) in enumerate(lists.items()):
            stream.write(f"{',' if number else '{'}{json.dumps(key)}:[".encode())
            for place, entry in enumerate(entries):
                stream.write((b"," if place else b"") + json.dumps(entry, separators=(",", ":")).encode())
            stream.write(b"]")
        stream.write(b"}\n")
