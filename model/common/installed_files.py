"""Data files inside installed packages, found through what the installer recorded; no code of the package runs."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path


class InstalledFileError(ValueError):
    """A package that is not installed, or lacks a file; the message names both."""


def installed_file(package: str, file: str) -> Path:
    """Where a file of a package lies.

    Args:
        package: its name in the package index.
        file: path in the package, or the end of it, as in ``models/weights.pth``.

    Raises:
        InstalledFileError: if the package is not installed, or does not have exactly one such file.
    """
    try:
        recorded = metadata.distribution(package).files or []
    except metadata.PackageNotFoundError:
        raise InstalledFileError(
            f"package '{package}' is not installed: run `make setup`, or pip install {package}"
        ) from None
    wanted = tuple(part for part in file.split("/") if part)
    found = [entry for entry in recorded if wanted and entry.parts[-len(wanted) :] == wanted]
    if len(found) != 1:
        have = sorted(str(entry) for entry in recorded if entry.name == wanted[-1]) if wanted else []
        several = f"has {len(found)} files" if found else "has no file"
        raise InstalledFileError(
            f"package '{package}' {several} '{file}'{'; it has ' + ', '.join(have) if have else ''}"
        )
    return Path(str(found[0].locate()))
