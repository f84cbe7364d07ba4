"""What the JSON files of a prepared dataset have to hold."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from model.common.json_files import Layout


class CategoryRow(Layout):
    """One class."""

    id: int
    name: str
    isthing: bool
    color: Annotated[list[int], Field(min_length=3, max_length=3)]


class DatasetFile(Layout):
    """``dataset.json``."""

    format: int
    name: str
    categories: Annotated[list[CategoryRow], Field(min_length=1)]
    background_id: int | None
    void_id: int | None
    background_is_labelled: bool
    tasks: list[str]
    splits: list[str]
    annotations: dict[str, str]
    content: str


class Annotations(Layout):
    """COCO's panoptic or instance annotations; there may be millions, so each is checked where it is used."""

    annotations: list[dict[str, Any]]
