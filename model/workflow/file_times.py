"""Files whose time lies in the future, as clocks of other machines leave them.

Times mean nothing to Segue, but Snakemake ends a job with an error, after its work is done, if one of its inputs is newer than
its outputs.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from model.workflow.state import Job

_TOLERANCE = 60.0
"""Seconds by which the clock of a file server may be ahead."""


class FileTimeError(ValueError):
    """A file of the user from the future; the message names it and the remedy."""


def bring_to_the_present(jobs: Iterable[Job]) -> None:
    """Set the times of results that lie in the future to now.

    Raises:
        FileTimeError: for a file of the user's, such as initial weights: these are never touched.
    """
    for job in jobs:
        for file in job.outputs:
            if _ahead(file) > 0:
                with suppress(OSError):  # somebody else's: Snakemake will name it
                    os.utime(file)
        for read in job.inputs.values():
            if read.made_by is None and _ahead(read.file) > _TOLERANCE:
                when = datetime.fromtimestamp(read.file.stat().st_mtime).isoformat(" ", "seconds")
                raise FileTimeError(
                    f"{read.file} was last changed in the future ({when}), which Snakemake takes for an error: check the "
                    "clock, or `touch` the file"
                )


def _ahead(file: Path) -> float:
    """Seconds by which a file's time is ahead of the clock; negative if it is not, or if there is no such file."""
    try:
        return file.stat().st_mtime - time.time()
    except OSError:
        return -1.0
