"""Published lists of images, fetched from where they were published and checked by content."""

from __future__ import annotations

from pathlib import Path

from model.datasets.download import fetch
from model.datasets.index_lists import PUBLISHED_AT, IndexList, IndexListError, read_index_list


def obtain_list(wanted: IndexList, file: Path, mirror: str | None = None) -> None:
    """Fetch a published list; one that lies there already is only checked.

    Args:
        wanted: from :func:`published_lists`.
        file: where it goes.
        mirror: address of a folder that holds the published files below ``index-lists``; None asks where they were published.

    Raises:
        DownloadError: if it cannot be had.
        IndexListError: if it is not the published list; the file is removed.
    """
    address = f"{mirror.rstrip('/')}/index-lists" if mirror else PUBLISHED_AT
    fetch(f"{address}/{wanted.file}", file)
    try:
        read_index_list(file, wanted)
    except IndexListError:
        file.unlink()
        file.with_name(f"{file.name}.sha256").unlink(missing_ok=True)
        raise
