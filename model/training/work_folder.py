"""The work folder of a training or evaluation: what it keeps after the end.

The workflow deletes the outputs of a job whose end it did not see. It does not see the end if it was killed itself while a
cluster, or the operating system, lets the training continue. Therefore two processes never work on one result
(:func:`model.common.locks.exclusive_lock`), and a finished job leaves hard links to its outputs here, which take no room. If it
is asked for again by a workflow that did not see the end, they are restored. The workflow removes them when it has seen
everything end well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from model.common.files import atomic_file, read_json, write_json
from model.common.own_folders import remove_listed
from model.common.provenance import checksum

FINISHED = "finished"
"""Folder with the links, below the work folder."""
RECORD = "key.json"
"""File in it that lists them."""


def keep_finished(folder: Path, key: str, outputs: Mapping[str, Path], known: Mapping[str, str] | None = None) -> None:
    """Link a job's outputs into its work folder; without effect where the file system cannot link.

    Args:
        folder: the work folder.
        key: digest of everything that the result depends on.
        outputs: name to file, all complete.
        known: name to SHA-256, of those outputs whose content need not be read again.
    """
    kept = folder / FINISHED
    _remove_links(kept)
    kept.mkdir(parents=True, exist_ok=True)
    # What is about to be linked is written down before, what has been linked after: links without a key are not used.
    write_json(kept / RECORD, {"key": "", "files": dict.fromkeys(outputs, "")})
    try:
        for name, path in outputs.items():
            os.link(path, kept / name)
    except OSError:
        _remove_links(kept)
        return
    known = known or {}
    sums = {name: known[name] if name in known else checksum(path) for name, path in outputs.items()}
    write_json(kept / RECORD, {"key": key, "files": sums})


def restore_finished(folder: Path, key: str, outputs: Mapping[str, Path], say: Callable[[str], None]) -> bool:
    """Put the outputs of a job that has finished under the same key in their places.

    Args:
        folder: the work folder.
        key: digest of everything that the result depends on.
        outputs: name to the path where the workflow expects the file; the last one is put there last.
        say: called with where the outputs come from, or that they are damaged.

    Returns:
        Whether there was one.
    """
    if _finished_key(folder) != key:
        return False
    kept = folder / FINISHED
    try:
        record = read_json(kept / RECORD)
        if record["files"].keys() != outputs.keys():
            return False
        if any(checksum(kept / name) != expected for name, expected in record["files"].items()):
            say(f"{kept}: damaged, not used; it will be made again")
            return False
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    for name, path in outputs.items():
        with (kept / name).open("rb") as source, atomic_file(path) as target:
            shutil.copyfileobj(source, target)
    say(f"this had finished before, from the same files and code; its outputs are taken from {kept}")
    return True


def restore_any(folder: Path, outputs: Mapping[str, Path], say: Callable[[str], None]) -> bool:
    """As :func:`restore_finished`, whatever the result depends on."""
    key = _finished_key(folder)
    return bool(key) and restore_finished(folder, key, outputs, say)


def _finished_key(folder: Path) -> str:
    """Key of what is kept; empty if nothing is."""
    with suppress(OSError, ValueError, KeyError):
        return str(read_json(folder / FINISHED / RECORD)["key"])
    return ""


def forget_finished(folder: Path) -> None:
    """Remove the links, so that the job runs if it is asked for again."""
    _remove_links(folder / FINISHED)


def _remove_links(kept: Path) -> None:
    """Remove the links that the record lists, and the folder if nothing else is in it."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        remove_listed(kept, read_json(kept / RECORD)["files"])
        remove_listed(kept, [RECORD])
    with suppress(OSError):
        kept.rmdir()
