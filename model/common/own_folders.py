"""Who owns a folder: Segue writes only into folders that it made, and removes only what its own record lists.

A folder of Segue's holds a marker that is written before anything else. A folder that holds files but no marker belongs to
the user, whatever its name, and is refused before anything in it is touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from model.common.files import FileError, read_json, write_json

MARKER = "made-by-segue.json"
"""File that says that a folder is Segue's, and what it holds."""


class ForeignFolderError(ValueError):
    """A folder that does not belong to Segue; the message names it and the remedy."""


def is_ours(folder: Path, what: str) -> bool:
    """Whether a folder has a marker that says that Segue made it for this.

    Args:
        folder: that may be Segue's.
        what: it should hold, as given to :func:`claim`.
    """
    file = folder / MARKER
    try:
        content = read_json(file) if file.is_file() else {}
    except FileError:
        return False
    return bool(content.get("made_by") == "segue" and content.get("holds") == what)


def check_claimable(folder: Path, what: str) -> None:
    """Refuse a folder that Segue did not make, unless it is empty or not there.

    Raises:
        ForeignFolderError: naming the folder.
    """
    if not folder.exists() or is_ours(folder, what):
        return
    if not folder.is_dir() or any(folder.iterdir()):
        raise ForeignFolderError(
            f"{folder} already exists and was not made by Segue (it has no {MARKER}): move it away, or name another folder "
            "under 'results'; nothing in it was changed"
        )


def claim(folder: Path, what: str) -> None:
    """Make a folder Segue's own, and write its marker.

    Args:
        folder: made if needed.
        what: it holds.

    Raises:
        ForeignFolderError: as :func:`check_claimable`.
        NotWrittenError: if the marker cannot be written.
    """
    check_claimable(folder, what)
    write_marker(folder, what)


def write_marker(folder: Path, what: str) -> None:
    """Write the marker of a folder that may hold other things besides those of Segue.

    Raises:
        NotWrittenError: if it cannot be written.
    """
    if not is_ours(folder, what):
        write_json(folder / MARKER, {"made_by": "segue", "holds": what})


def remove_listed(folder: Path, names: Iterable[str]) -> None:
    """Remove files that a record of Segue's lists, and no others: a name that leads out of the folder is left alone.

    Args:
        folder: holds the files.
        names: relative to it.
    """
    home = folder.resolve()
    for name in names:
        file = folder / name
        # The place is resolved, the file itself is not: of a link to something else the link goes.
        if file.parent.resolve().is_relative_to(home) and file.name not in ("", ".", ".."):
            with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):
                file.unlink()


def refuse_overlap(read: Path, written: Path, what: str) -> None:
    """Refuse to write where the user's own files are read from; links are followed.

    Args:
        read: folder of the user.
        written: folder of Segue's.
        what: the first one is, for the message.

    Raises:
        ForeignFolderError: if one folder is inside the other, or both are the same.
    """
    theirs, ours = read.resolve(), written.resolve()
    if theirs.is_relative_to(ours) or ours.is_relative_to(theirs):
        how = "is" if theirs == ours else "is inside" if theirs.is_relative_to(ours) else "contains"
        raise ForeignFolderError(
            f"{what} ({theirs}) {how} {ours}, which Segue writes to: keep the two apart, so that nothing of yours is "
            "overwritten"
        )
