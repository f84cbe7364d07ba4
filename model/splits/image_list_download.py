"""Published lists of images, fetched from where they were published and checked by content."""

from __future__ import annotations

from pathlib import Path

from model.data.download.fetching import fetch
from model.splits.image_lists import PUBLISHED_AT, ImageList, ImageListError, read_image_list


def obtain_list(wanted: ImageList, file: Path, mirror: str | None = None) -> None:
    """Download a published list; one that exists already is only verified.

    Args:
        wanted: from :func:`published_lists`.
        file: where it goes.
        mirror: address of a folder that holds the published files in ``index-lists``; None: where they were published.

    Raises:
        DownloadError: if it cannot be had.
        ImageListError: if it is not the published list; a file that was fetched is removed.
    """
    address = f"{mirror.rstrip('/')}/index-lists" if mirror else PUBLISHED_AT
    was_there = file.exists()
    fetch(f"{address}/{wanted.file}", file)
    try:
        read_image_list(file, wanted)
    except ImageListError:
        if was_there:
            raise
        file.unlink()
        file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)
        raise
