"""JSON files that were written by one job, read by another, and may have been damaged or edited in between."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from model.common.files import FileError, read_json, write_json
from model.common.fingerprints import canonical_json

REMADE = "delete it to have it made again"
CHECKSUM = "checksum"
"""Key that holds the digest of all others."""


class Layout(BaseModel):
    """What a file has to hold; it may have further entries."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


def write_checked(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file with the checksum that :func:`read_checked` compares.

    Raises:
        NotWrittenError: if the file cannot be written.
        TypeError: for a value that JSON cannot express.
        ValueError: for NaN and infinity.
    """
    # As it will be read: keys are text, tuples are lists.
    plain = json.loads(json.dumps(dict(content), allow_nan=False))
    write_json(path, {**plain, CHECKSUM: checksum_of(plain)})


def read_checked(path: Path, layout: type[Layout], remedy: str = REMADE) -> dict[str, Any]:
    """The content of a file of :func:`write_checked`, after a look at its layout and its checksum.

    Raises:
        FileError: naming the file, what is wrong and the remedy.
    """
    content = read_json(path, remedy)
    check_layout(content, path, layout, remedy)
    return without_checksum(content, path, remedy)


def without_checksum(content: Mapping[str, Any], path: Path, remedy: str = REMADE) -> dict[str, Any]:
    """Content whose checksum is right.

    Raises:
        FileError: if there is none, or another one.
    """
    plain = {key: value for key, value in content.items() if key != CHECKSUM}
    if CHECKSUM not in content:
        raise FileError(f"{path}: has no checksum: this version of Segue did not write it; {remedy}")
    try:
        whole = content[CHECKSUM] == checksum_of(plain)
    except ValueError:  # a number that we never write, such as NaN
        whole = False
    if not whole:
        raise FileError(
            f"{path}: its content does not match the checksum stored with it: it is damaged or was edited; {remedy}"
        )
    return plain


def checksum_of(content: Mapping[str, Any]) -> str:
    """Digest of plain data, whatever the order of the keys."""
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


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
