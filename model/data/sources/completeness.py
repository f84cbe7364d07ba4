"""Whether raw data are all that their authors published: a folder that was unpacked only in part is noticed before it is used."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Count:
    """How many files of one sort there are, and how many were published.

    Attributes:
        what: where they are, or which list names them.
        found: how many there are.
        official: how many there should be.
    """

    what: Path
    found: int
    official: int


class Unpublished:
    """Defaults for sources without published archives, counts or class orders."""

    @property
    def complete(self) -> bool:
        """Nothing was published that could be complete."""
        return False

    def downloads(self) -> Mapping[str, Path]:
        """None: there are no official archives."""
        return {}

    def counts(self) -> Sequence[Count]:
        """None are official."""
        return ()

    def orders(self, task: str) -> Mapping[str, Sequence[int]]:
        """None are published; the configuration can give its own."""
        return {}


def shortfalls(counts: Iterable[Count]) -> list[str]:
    """A sentence for every count that is not the official one."""
    return [f"{c.what} has {c.found:,} images, officially {c.official:,}" for c in counts if c.found != c.official]


class AmbiguousError(ValueError):
    """Two files of a folder that one name stands for; the message names both."""


def stems(folder: Path, endings: Collection[str]) -> dict[str, str]:
    """Files of a folder by name without ending; none if the folder does not exist. Hidden files do not count.

    Args:
        folder: to list.
        endings: in lower case, with the dot; those of the files may be in capitals, as cameras write them.

    Raises:
        AmbiguousError: if two files differ in their endings only.
    """
    if not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    found: dict[str, str] = {}
    for name in names:
        stem, dot, ending = name.rpartition(".")
        if f"{dot}{ending}".lower() in endings and found.setdefault(stem, name) != name:
            raise AmbiguousError(f"{folder} has two files named '{stem}' ({found[stem]}, {name}): remove one")
    return found


def unmatched(wanted: Iterable[str], present: Iterable[str]) -> tuple[str, int] | None:
    """The first of the wanted names that are missing, and how many are; None if there is none."""
    absent = sorted(set(wanted) - set(present))
    return (absent[0], len(absent)) if absent else None
