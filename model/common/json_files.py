"""JSON files that were written by one job, read by another, and may have been edited in between."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from model.common.files import FileError, read_json

REMADE = "delete it to have it made again"


class Layout(BaseModel):
    """What a file has to hold; it may have further entries."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


def read_checked(path: Path, layout: type[Layout], remedy: str = REMADE) -> dict[str, Any]:
    """The content of a JSON file, after a check of its layout.

    Raises:
        FileError: naming the file, the first entry that is missing or of another kind, and the remedy.
    """
    content = read_json(path, remedy)
    check_layout(content, path, layout, remedy)
    return content


def check_layout(content: Mapping[str, Any], path: Path, layout: type[Layout], remedy: str = REMADE) -> None:
    """Check the layout of a JSON file's content.

    Raises:
        FileError: as :func:`read_checked`.
    """
    try:
        layout.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"])) or "the whole"
        found = "" if problem["type"] == "missing" else f", found {str(problem['input'])[:60]!r}"
        text = problem["msg"].removeprefix("Value error, ")
        found = "" if problem["type"] == "value_error" else found
        raise FileError(f"{path}: {key}: {text[0].lower()}{text[1:]}{found}; {remedy}") from None
