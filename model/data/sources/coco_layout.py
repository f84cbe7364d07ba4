"""Whether annotations in COCO's form have what is read from them, so that what is missing is named and not met as a bug."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

IMAGES = ("id", "file_name")
PANOPTIC = ("image_id", "file_name", "segments_info")
SEGMENTS = ("id", "category_id", "area", "bbox")
INSTANCES = ("image_id", "category_id", "segmentation", "area", "bbox", "iscrowd")


class LayoutError(ValueError):
    """An annotation that is laid out otherwise; the message names the file, the entry and the remedy."""


def rows(content: Any, name: str, keys: Sequence[str], file: Path, where: str = "") -> list[Mapping[str, Any]]:
    """A list of an annotation, every row of which has these keys.

    Args:
        content: mapping that holds the list.
        name: of the list.
        keys: that every row needs.
        file: named in messages.
        where: path to ``content`` inside the file.

    Raises:
        LayoutError: naming the first row without one of the keys.
    """
    remedy = "it is not in COCO's layout, or was edited: unpack its archive again"
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, list):
        raise LayoutError(f"{file}: {where}{name} is not a list: {remedy}")
    for number, row in enumerate(found):
        for key in keys:
            if not isinstance(row, Mapping) or key not in row:
                raise LayoutError(f"{file}: {where}{name}[{number}] has no '{key}': {remedy}")
    return found


def panoptic_rows(content: Any, file: Path) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Images and annotations of a panoptic file.

    Raises:
        LayoutError: as :func:`rows`.
    """
    annotations = rows(content, "annotations", PANOPTIC, file)
    for number, one in enumerate(annotations):
        rows(one, "segments_info", SEGMENTS, file, f"annotations[{number}].")
    return rows(content, "images", IMAGES, file), annotations
