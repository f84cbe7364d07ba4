"""Whether annotations in COCO's form are laid out as published, so that what is wrong is named and not met as a bug."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NotRequired

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

_REMEDY = "it is not in COCO's layout, or was edited: unpack its archive again"

Id = int | str
Number = int | float
Box = Annotated[list[Number], Field(min_length=4, max_length=4)]
Flag = Annotated[int, Field(ge=0, le=1)] | bool
_STRICT = ConfigDict(strict=True)


class Image(TypedDict):
    """A row of ``images``."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    id: Id
    file_name: str


class Segment(TypedDict):
    """A row of ``segments_info``."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    id: Annotated[int, Field(ge=1, lt=1 << 24)]
    category_id: int
    area: Number
    bbox: Box
    iscrowd: NotRequired[Flag]


class Panoptic(TypedDict):
    """A row of ``annotations`` of a panoptic file."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    image_id: Id
    file_name: str
    segments_info: list[Segment]


class RunLengths(TypedDict):
    """A mask as lengths of runs, packed into text or not."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    size: Annotated[list[int], Field(min_length=2, max_length=2)]
    counts: str | list[Annotated[int, Field(ge=0)]]


class Object(TypedDict):
    """A row of ``annotations`` of an instance file."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    image_id: Id
    category_id: int
    segmentation: Annotated[list[Annotated[list[Number], Field(min_length=6)]], Field(min_length=1)] | RunLengths
    area: Number
    bbox: Box
    iscrowd: Flag


class CategoryRow(TypedDict):
    """A row of ``categories``."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    id: int
    name: Annotated[str, Field(min_length=1)]
    isthing: Flag
    color: NotRequired[Annotated[list[Annotated[int, Field(ge=0, le=255)]], Field(min_length=3, max_length=3)]]


_IMAGE, _PANOPTIC, _OBJECT, _CATEGORY = (TypeAdapter[Any](row) for row in (Image, Panoptic, Object, CategoryRow))


class LayoutError(ValueError):
    """An annotation that is laid out otherwise; the message names the file, the entry and the remedy."""


def read(file: Path) -> Any:
    """The content of an annotation.

    Raises:
        LayoutError: if it is not there or no JSON.
    """
    try:
        return json.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise LayoutError(f"{file} does not exist: unpack its archive") from None
    except (ValueError, RecursionError) as error:
        raise LayoutError(f"{file} is not valid JSON ({error}): unpack its archive again") from None


def categories(found: Any, file: Path) -> list[dict[str, Any]]:
    """The class table of an annotation.

    Raises:
        LayoutError: naming the first row that is laid out otherwise, or two rows of one id or name.
    """
    rows = _rows({"categories": found}, "categories", _CATEGORY, file)
    _refuse_repetition(rows, "categories", "id", file)
    _refuse_repetition(rows, "categories", "name", file)
    return rows


def panoptic_rows(content: Any, file: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Images and annotations of a panoptic file.

    Raises:
        LayoutError: naming the first row that is laid out otherwise, or two rows about one image.
    """
    annotations = _rows(content, "annotations", _PANOPTIC, file)
    images = _rows(content, "images", _IMAGE, file)
    _refuse_repetition(images, "images", "id", file)
    _refuse_repetition(images, "images", "file_name", file)
    _refuse_repetition(annotations, "annotations", "image_id", file)
    return images, annotations


def instance_rows(content: Any, file: Path) -> list[dict[str, Any]]:
    """Annotations of an instance file.

    Raises:
        LayoutError: naming the first row that is laid out otherwise.
    """
    return _rows(content, "annotations", _OBJECT, file)


def _rows(content: Any, name: str, layout: TypeAdapter[Any], file: Path) -> list[dict[str, Any]]:
    found = content.get(name) if isinstance(content, Mapping) else None
    if not isinstance(found, list):
        raise LayoutError(f"{file}: {name} is no list: {_REMEDY}")
    for number, row in enumerate(found):
        try:
            layout.validate_python(row)
        except ValidationError as error:
            raise LayoutError(f"{file}: {name}[{number}]{_problem(error)}: {_REMEDY}") from None
    return found


def _problem(error: ValidationError) -> str:
    """``.segments_info[1].id is None, expected …`` or ``has no 'name'``."""
    problem = error.errors()[0]
    place = [part for part in problem["loc"] if isinstance(part, int) or part in _KEYS]
    if problem["type"] == "missing":
        return f"{_path(place[:-1])} has no '{problem['loc'][-1]}'"
    text = problem["msg"].removeprefix("Input should be ")
    return f"{_path(place)} is {str(problem['input'])[:40]!r}, expected {text[0].lower()}{text[1:]}"


_KEYS = frozenset(
    key for row in (Image, Segment, Panoptic, RunLengths, Object, CategoryRow) for key in row.__annotations__
)
"""Other parts of a place are branches of a union, which the file does not have."""


def _path(parts: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _refuse_repetition(rows: Sequence[Mapping[str, Any]], name: str, key: str, file: Path) -> None:
    known: dict[Any, int] = {}
    for number, row in enumerate(rows):
        if (before := known.setdefault(row[key], number)) != number:
            raise LayoutError(f"{file}: {name}[{before}] and {name}[{number}] both have {key} {row[key]!r}: remove one")
