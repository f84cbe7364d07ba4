"""Progress of long work on data: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm

_LOG_SECONDS = 15.0


def progress_bar(total: int | None, description: str, unit: str, start: int = 0) -> tqdm[Any]:
    """A bar on stderr; in a log file it is written every quarter of a minute only.

    Args:
        total: number of units; None if unknown.
        description: what is going on.
        unit: ``B`` for bytes, or a word.
        start: units that were done before.
    """
    return tqdm(
        total=total,
        initial=start,
        desc=description,
        unit=unit,
        unit_scale=unit == "B",
        mininterval=0.2 if sys.stderr.isatty() else _LOG_SECONDS,
        ascii=None if sys.stderr.isatty() else " #",
    )
