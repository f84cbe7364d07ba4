"""The end of a preparation: its tables, and the record of what was prepared from what.

``manifest.json`` says by which description and code a dataset was prepared, from which content, and what was written; equal
content gives equal files, wherever it lies. ``raw-files.csv`` and ``raw-state.json`` say where the raw files lay and how old they
were. ``dataset.json`` comes last and says that all of it is complete.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.common.files import FileError, write_text
from model.common.json_files import Layout, read_checked, write_checked
from model.common.own_folders import remove_listed
from model.data.prepared.dataset import DATASET, Category, write_dataset, write_records
from model.data.prepared.journal import JournalLines, forget_dropped, listed_files, not_written_again
from model.data.prepared.panoptic_form import write_annotations
from model.data.prepared.preparation import JOURNALS, RawImage, image_records, journal_file, notes_of
from model.data.prepared.raw_files import (
    RawInputs,
    Row,
    changed_files,
    changed_inputs,
    content_hash,
    read_table,
    table_of,
)

MANIFEST, RAW_FILES, RAW_STATE = "manifest.json", "raw-files.csv", "raw-state.json"
BY_CONTENT = "content:"
"""How the token begins of a comparison that has read every file: preparing then reads them as well."""
_SHOWN = 3
"""So many changes are named, and the number of the others."""


class _RawState(Layout):
    token: str
    inputs: dict[str, Any]
    files: str


@dataclass(frozen=True)
class PreparedSplit:
    """A split whose images are prepared: the raw files, and a journal line each."""

    images: Sequence[RawImage]
    lines: JournalLines


@dataclass(frozen=True)
class RawState:
    """How raw data stand to what was prepared from them.

    Attributes:
        token: text that changes when raw data have changed, and comes back when they are what the finished preparation was
            made from; empty before the first preparation.
        changes: what has changed, a phrase each.
        note: what the user should know although nothing has to be done.
    """

    token: str = ""
    changes: tuple[str, ...] = ()
    note: str = ""

    @property
    def sentence(self) -> str:
        """The first changes, and the number of the others."""
        more = len(self.changes) - _SHOWN
        return "; ".join([*self.changes[:_SHOWN], *([f"{more:,} more"] if more > 0 else [])])


def write_prepared(
    folder: Path,
    *,
    name: str,
    categories: Sequence[Category],
    background_id: int | None,
    void_id: int | None,
    tasks: Sequence[str],
    splits: Mapping[str, PreparedSplit],
    background_is_labelled: bool = False,
) -> None:
    """Write tables, annotations and the record of a preparation whose maps are written.

    Maps that an earlier preparation has written and this one has not are removed, as far as its journals list them.

    Args:
        folder: the prepared folder.
        name, categories, background_id, void_id, tasks, background_is_labelled: as in
            :class:`~model.data.prepared.dataset.PreparedDataset`.
        splits: what was prepared, by name.
    """
    (folder / DATASET).unlink(missing_ok=True)
    _forget_other_splits(folder, splits)
    annotations: dict[str, str] = {}
    for split, part in splits.items():
        remove_listed(
            folder, not_written_again(journal_file(folder, split), (n for line in part.lines for n in line["files"]))
        )
        forget_dropped(journal_file(folder, split))
        write_records(folder, split, image_records(folder, split, part.images, part.lines))
        if "panoptic" in tasks:
            files = write_annotations(folder, split, categories, part.lines)
            annotations |= {file.name: content_hash(file) for file in files}
    _warn_of_repeated_photographs(name, splits)
    _tell_of_turned_photographs(name, splits)
    raw_files = table_of(
        (row for part in splits.values() for line in part.lines for row in line["raw"].values()), folder
    )
    write_text(folder / RAW_FILES, raw_files)
    notes = notes_of(folder)
    state = {
        "token": notes.get("token", ""),
        "inputs": notes.get("inputs", {"folders": [], "tables": [], "listed": {}}),
        "files": hashlib.sha256(raw_files.encode()).hexdigest(),
    }
    write_checked(folder / RAW_STATE, state)
    content = _content(splits, annotations)
    write_checked(
        folder / MANIFEST,
        {
            "spec": notes.get("spec", {}),
            "code": notes.get("code", ""),
            "inventory": _inventory(splits, notes),
            "content": content,
            "splits": {split: _summary(part.lines) for split, part in splits.items()},
        },
    )
    write_dataset(
        folder,
        name=name,
        categories=categories,
        background_id=background_id,
        void_id=void_id,
        tasks=tasks,
        splits=tuple(splits),
        background_is_labelled=background_is_labelled,
        content=content,
        annotations=annotations,
    )


def _again(folder: Path) -> str:
    return f"delete {folder / DATASET} to have the dataset prepared again"


def raw_state(folder: Path, inputs: RawInputs, gone: Sequence[str], verify: bool = False) -> RawState:
    """Whether a prepared folder was made from raw data as they are now. One look at each file, unless it has changed.

    Args:
        folder: the prepared one.
        inputs: of the raw data as they are.
        gone: what raw data lack altogether; then what was prepared from them stays valid.
        verify: whether every file is read, and not only looked at.
    """
    if not (folder / DATASET).is_file():
        return RawState()
    try:
        known = read_checked(folder / RAW_STATE, _RawState, _again(folder))
        if gone:
            return RawState(known["token"], note=f"{gone[0]}; what was prepared before is used")
        changes = [
            *changed_inputs(known["inputs"], inputs, verify),
            *changed_files(_recorded(folder, known), verify),
        ]
    except FileError as error:
        changes = [str(error)]
    except (ValueError, OSError, KeyError, TypeError, AttributeError) as error:
        changes = [f"{folder / RAW_STATE} cannot be used ({error})"]
    if not changes:
        return RawState(known["token"])
    digest = hashlib.sha256("\n".join(changes).encode()).hexdigest()[:16]
    return RawState(f"{BY_CONTENT if verify else ''}{digest}", tuple(changes))


def _recorded(folder: Path, known: Mapping[str, Any]) -> Iterator[Row]:
    file = folder / RAW_FILES
    text = file.read_bytes()
    if hashlib.sha256(text).hexdigest() != known["files"]:
        raise FileError(f"{file} is damaged")
    return read_table(text.decode(), folder)


def _forget_other_splits(folder: Path, splits: Mapping[str, object]) -> None:
    """Remove what was prepared of splits that the dataset does not have any more, by what their journals list."""
    for journal in (folder / JOURNALS).glob("*.jsonl"):
        if (split := journal.stem) not in splits:
            remove_listed(folder, listed_files(journal))
            forget_dropped(journal)
            tables = f"{split}.csv", f"panoptic_{split}.json", f"instances_{split}.json"
            remove_listed(folder, (*tables, f"{JOURNALS}/{journal.name}"))


def _summary(lines: JournalLines) -> dict[str, Any]:
    """How many images, segments and instances, and the hash of every written map."""
    entry: dict[str, Any] = {"images": len(lines), "segments": 0, "instances": 0, "files": {}}
    for line in lines:
        entry["segments"] += len(line["segments"])
        entry["instances"] += len(line["instances"])
        entry["files"].update(sorted(line["files"].items()))
    return entry


def _content(splits: Mapping[str, PreparedSplit], annotations: Mapping[str, str]) -> str:
    """Digest of maps, annotations and photographs; where they lie does not enter."""
    digest = hashlib.sha256(json.dumps(annotations, sort_keys=True).encode())
    for split, part in splits.items():
        for line in part.lines:
            photograph = line["raw"]["image"][5]
            entry = [split, line["id"], line["height"], line["width"], photograph, sorted(line["files"].items())]
            digest.update(json.dumps(entry).encode())
    return digest.hexdigest()


def _inventory(splits: Mapping[str, PreparedSplit], notes: Mapping[str, Any]) -> str:
    """Digest of the content of everything raw, wherever it lies."""
    digest = hashlib.sha256()
    for row in notes.get("inputs", {}).get("tables", []):
        digest.update(f"{Path(row[0]).name} {row[5]}\n".encode())
    for split, part in splits.items():
        for line in part.lines:
            parts = {part: row[5] for part, row in sorted(line["raw"].items())}
            digest.update(json.dumps([split, line["id"], parts, line["annotation"]]).encode())
    return digest.hexdigest()


def _warn_of_repeated_photographs(name: str, splits: Mapping[str, PreparedSplit]) -> None:
    """Say which photograph is in two splits: what a network has learnt by heart tells nothing about it."""
    known: dict[str, tuple[str, str]] = {}
    twice = []
    for split, part in splits.items():
        for line in part.lines:
            before = known.setdefault(line["raw"]["image"][5], (split, line["raw"]["image"][0]))
            if before[0] != split:
                twice.append((before[1], line["raw"]["image"][0]))
    if twice:
        print(
            f"warning: dataset '{name}': {len(twice):,} photographs are in two splits, such as {twice[0][0]} and "
            f"{twice[0][1]}; results on images that were trained on say little",
            file=sys.stderr,
        )


def _tell_of_turned_photographs(name: str, splits: Mapping[str, PreparedSplit]) -> None:
    """Say which photographs are turned: half a turn leaves the size, so a map that was drawn otherwise is not noticed."""
    turned = [line["raw"]["image"][0] for part in splits.values() for line in part.lines if line["turned"]]
    if turned:
        print(
            f"note: dataset '{name}': {len(turned):,} photographs are rotated as their metadata say, such as {turned[0]}; their "
            "label maps are taken to be drawn on what viewers show",
            file=sys.stderr,
        )
