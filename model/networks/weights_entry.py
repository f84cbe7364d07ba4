"""The entry ``weights`` of a recipe's network: which file a base step starts from, and where it comes from.

It belongs to the base step only: every later step starts from the previous checkpoint. Its keys:

    source     whose names the file uses, one of those below
    file       path; ``$NAME`` is filled in from the environment, so that a recipe contains no machine-specific path.
               With ``package``: path inside the package
    package    installed package that carries the file; none of its code is ever run
    url        where the workflow fetches ``file`` if it is not there
    sha256     of the file, or how it begins (the names of torchvision's files end with eight digits of it)
    licence    of the weights, for `make doctor`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.common.environment import expand, not_set
from model.common.installed_files import InstalledFileError, installed_file
from model.common.provenance import checksum

_NEEDED = frozenset({"file", "source"})
_OPTIONAL = frozenset({"package", "sha256", "url", "licence"})
_WHOLE_SHA256 = 64
_LEAST_DIGITS = 8


class InitialWeightsError(ValueError):
    """An entry ``weights`` that cannot be used; the message names what is missing or unknown."""


def check_keys(entry: Any) -> None:
    """Refuse keys that do not exist or go together.

    Raises:
        InitialWeightsError: naming the key.
    """
    if not isinstance(entry, Mapping) or not _NEEDED <= set(entry) <= _NEEDED | _OPTIONAL:
        raise InitialWeightsError(
            f"network.weights: expected the keys 'file' and 'source', and perhaps {', '.join(sorted(_OPTIONAL))}; got {entry!r}"
        )
    if strange := [key for key, value in entry.items() if not isinstance(value, str) or not value]:
        raise InitialWeightsError(f"network.weights.{strange[0]}: expected a text, got {entry[strange[0]]!r}")
    if "package" in entry and "url" in entry:
        raise InitialWeightsError("network.weights: 'package' and 'url' exclude each other")
    for key in ("package", "url"):
        if key in entry and "sha256" not in entry:
            raise InitialWeightsError(f"network.weights: '{key}' needs 'sha256', so that no other file is taken for it")
    digits = entry.get("sha256", "0" * _LEAST_DIGITS)
    least = _WHOLE_SHA256 if "package" in entry else _LEAST_DIGITS
    if not re.fullmatch("[0-9a-f]+", digits) or not least <= len(digits) <= _WHOLE_SHA256:
        raise InitialWeightsError(
            f"network.weights.sha256: expected {'64' if 'package' in entry else '8 to 64'} lower-case hexadecimal digits, "
            f"got '{digits}'"
        )


def weights_file(entry: Mapping[str, Any]) -> Path:
    """The file of an entry, with environment variables expanded; whether it is there is not looked at.

    Raises:
        InitialWeightsError: for keys that do not go together, a variable that is not set, or a package without the file.
    """
    check_keys(entry)
    if "package" in entry:
        try:
            return installed_file(entry["package"], entry["file"])
        except InstalledFileError as error:
            raise InitialWeightsError(f"network.weights: {error}") from None
    if problem := not_set(str(entry["file"])):
        raise InitialWeightsError(f"network.weights.file: {problem}")
    return Path(expand(str(entry["file"])))


def verified_file(entry: Mapping[str, Any]) -> Path:
    """The file of an entry, which is there and has the checksum that the entry names.

    Raises:
        InitialWeightsError: otherwise, and as :func:`weights_file`.
    """
    file = weights_file(entry)
    if not file.is_file():
        raise InitialWeightsError(
            f"{file}: network.weights.file of the recipe does not exist; put it there, or let the recipe name another place"
        )
    if "sha256" in entry and not (found := checksum(file)).startswith(entry["sha256"]):
        again = f"reinstall the package '{entry['package']}'" if "package" in entry else "download it again"
        raise InitialWeightsError(
            f"{file} has sha256 {found}, but network.weights says {entry['sha256']}: it is incomplete or another file; {again}"
        )
    return file


def to_fetch(entry: Mapping[str, Any]) -> Path | None:
    """The file that the workflow has to fetch first; None if there is none."""
    if "url" not in entry:
        return None
    file = weights_file(entry)
    return None if file.is_file() else file


def spec_entry(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What a training depends on: where the file may be fetched, and under which licence, is not part of it."""
    return {key: value for key, value in entry.items() if key not in ("url", "licence")}


def origin(entry: Mapping[str, Any]) -> str:
    """Where the file comes from, and under which licence, for messages."""
    place = (
        f"package {entry['package']}" if "package" in entry else str(entry.get("url", f"{entry['source']}, by hand"))
    )
    return f"{place}; {entry.get('licence', 'the recipe names no licence')}"
