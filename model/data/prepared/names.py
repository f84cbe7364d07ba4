"""Names that become paths of the prepared form: whatever leads out of its folder, or stands for two things, is refused here.

Names of images come from lists, annotations and folders of others. They may lie in folders of their own (``drive-1/0007``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

_SPLIT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class NameOfDataError(ValueError):
    """A name of an image or a split that cannot be used; the message says where it stands and what to do."""


def image_name(text: str, where: object) -> str:
    """The name of an image as a path below a folder, ``./`` and doubled slashes taken out.

    Args:
        text: as it was found.
        where: file that it stands in, for the message.

    Raises:
        NameOfDataError: for text that names nothing, leads out of its folder or holds control characters.
    """
    path = PurePosixPath(text)
    name = "/".join(path.parts)
    if not name.strip():
        raise NameOfDataError(f"{where}: {text!r} names no image: correct it")
    if path.is_absolute() or ".." in path.parts or "\\" in text:
        raise NameOfDataError(
            f"{where}: the name {text!r} leads out of the folder of the images: names are relative to it, without '..'"
        )
    if not text.isprintable():
        raise NameOfDataError(f"{where}: the name {text!r} holds characters that cannot be printed: rename the file")
    return name


def split_name(text: str) -> str:
    """The name of a split, which becomes that of files and folders.

    Raises:
        NameOfDataError: for anything but letters, digits, dot, hyphen and underscore.
    """
    if not _SPLIT.fullmatch(text):
        raise NameOfDataError(
            f"'{text}' is no name of a split: use letters, digits, dot, hyphen and underscore, such as 'train'"
        )
    return text


def refuse_repetition(names: Iterable[tuple[str, object]], split: str) -> None:
    """Refuse two images of one name: the second would get the labels of the first.

    Args:
        names: each name, and what it was made from.
        split: named in the message.

    Raises:
        NameOfDataError: naming both.
    """
    known: dict[str, object] = {}
    for name, origin in names:
        if name in known:
            raise NameOfDataError(
                f"two images of split '{split}' would both be called '{name}': {known[name]} and {origin}; rename or remove one"
            )
        known[name] = origin
    for name, origin in known.items():  # a.png cannot be a file and a folder
        for parent in PurePosixPath(name).parents:
            if parent.suffix == ".png" and (other := str(parent.with_suffix(""))) in known:
                raise NameOfDataError(
                    f"the image {origin} of split '{split}' lies in a folder with the name that the map of {known[other]} gets: "
                    "rename one"
                )
