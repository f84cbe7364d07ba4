"""Kinds of raw data by name. A kind is one class in one file; adding a kind adds one file and one row here.

The table holds module paths as text, so a job depends on the code of its own kind only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from model.common.environment import not_set
from model.common.own_folders import refuse_overlap
from model.common.registry import Registry
from model.data.download import archives
from model.data.prepared.dataset import DATASET, Category, PreparedDataset
from model.data.prepared.manifest import RawState, raw_state
from model.data.prepared.raw_files import RawInputs
from model.data.sources.completeness import Count, shortfalls

SOURCES: Mapping[str, str] = {
    "shapes": "model.data.sources.shapes:Shapes",
    "ade20k": "model.data.sources.ade20k:Ade20k",
    "coco": "model.data.sources.coco:Coco",
    "voc": "model.data.sources.voc:Voc",
    "folder": "model.data.sources.folder:Folder",
}


class SourceError(ValueError):
    """A kind or an option that does not exist; the message names it and what is known."""


class Source(Protocol):
    """Raw data of one kind: a frozen dataclass whose fields are its options in the configuration."""

    def categories(self) -> tuple[Category, ...]:
        """The class table, known before anything is prepared."""

    def missing(self) -> list[str]:
        """What is not there yet and where to get it; empty if preparation can start."""

    def inputs(self) -> RawInputs:
        """Folders of the user that are read, and what says which images and classes there are.

        Nothing is ever written there but archives that the user asks for.
        """

    def downloads(self) -> Mapping[str, Path]:
        """Official archives that are to be fetched where they are not there yet, and the folder that each belongs to."""

    def counts(self) -> Sequence[Count]:
        """How many images there are, and how many were published; empty where nothing was."""

    @property
    def complete(self) -> bool:
        """Whether other numbers of images than the published ones are an error."""

    def orders(self, task: str) -> Mapping[str, Sequence[int]]:
        """Published class orders by letter, in category ids."""

    def prepare(self, folder: Path, name: str, workers: int) -> None:
        """Write the prepared form; what an interrupted run has written already is kept."""


_REGISTRY = Registry("dataset kind", SOURCES, SourceError, "option", open=True)


def module_of(kind: str) -> str:
    """Dotted name of the module that prepares a kind.

    Raises:
        SourceError: if the kind does not exist.
    """
    return _REGISTRY.module_of(kind)


def source(kind: str, options: Mapping[str, Any]) -> Source:
    """Raw data of a kind with the options of the configuration.

    Raises:
        SourceError: for an unknown kind, an unknown option, one that is needed and not given, or a value of the wrong type.
    """
    found: Source = _REGISTRY.build(kind, options)
    return found


def categories(kind: str, options: Mapping[str, Any], prepared: Path | None = None) -> tuple[Category, ...]:
    """The class table of configured raw data.

    Args:
        kind: a key of ``SOURCES``.
        options: of the kind.
        prepared: folder whose table counts where raw data were put away after they had been prepared.
    """
    raw = source(kind, options)
    if prepared is not None and (prepared / DATASET).is_file() and raw.missing():
        return PreparedDataset.open(prepared).categories
    return raw.categories()


def missing(kind: str, options: Mapping[str, Any]) -> list[str]:
    """What configured raw data lack."""
    raw = source(kind, options)
    problem = not_set(dict(options))
    return [problem] if problem else raw.missing()


def downloads(kind: str, options: Mapping[str, Any]) -> Mapping[str, Path]:
    """Official archives that configured raw data ask for, and the folder that each belongs to.

    Raises:
        SourceError: if that folder names an environment variable that is not set.
    """
    found = source(kind, options).downloads()
    for root in found.values():
        if problem := not_set(str(root)):
            raise SourceError(problem)
    return found


def refuse_overlaps(kind: str, options: Mapping[str, Any], name: str, written: Path) -> None:
    """Refuse to write into folders that configured raw data are read from, or into folders around them.

    Args:
        kind: a key of ``SOURCES``.
        options: of the kind.
        name: of the dataset.
        written: folder of Segue's.

    Raises:
        ForeignFolderError: naming both folders.
    """
    for folder in source(kind, options).inputs().folders:
        refuse_overlap(folder, written, f"the raw data of dataset '{name}'")


def state_of(kind: str, options: Mapping[str, Any], folder: Path, verify: bool = False) -> RawState:
    """How configured raw data stand to what was prepared from them.

    Args:
        kind: a key of ``SOURCES``.
        options: of the kind.
        folder: the prepared one.
        verify: whether the content of every file is compared, and not only its size and times.
    """
    raw = source(kind, options)
    return raw_state(folder, raw.inputs(), raw.missing(), verify)


def pending(kind: str, options: Mapping[str, Any]) -> list[archives.Archive]:
    """Archives that configured raw data ask for and that are not there yet."""
    return [one for name, root in downloads(kind, options).items() for one in archives.wanted(root, [name])]


def archive_markers(kind: str, options: Mapping[str, Any], prepared: Path | None = None) -> list[Path]:
    """Completion markers of the archives that preparation needs.

    None is needed where raw data were archived after they had been ``prepared``.
    """
    if prepared is not None and (prepared / DATASET).is_file() and missing(kind, options):
        return []
    return [marker for name, root in downloads(kind, options).items() for marker in archives.markers(root, [name])]


def incomplete(kind: str, options: Mapping[str, Any]) -> tuple[list[str], bool]:
    """Numbers of images that are not the published ones, a sentence each, and whether that is an error."""
    raw = source(kind, options)
    return shortfalls(raw.counts()), raw.complete or bool(raw.downloads())


def orders(kind: str, options: Mapping[str, Any], task: str) -> Mapping[str, Sequence[int]]:
    """Published class orders of a kind by letter, in category ids."""
    return source(kind, options).orders(task)
