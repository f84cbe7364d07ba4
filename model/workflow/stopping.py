"""Stopping a whole workflow."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import psutil


class Interrupts:
    """SIGINT, forwarded to the jobs of this process, so that trainings save their state and end.

    A terminal sends SIGINT to the whole process group, but ``kill -INT`` reaches Snakemake alone, which would then wait for its
    trainings to finish. A job may safely receive the signal twice.
    """

    def __init__(self) -> None:
        self.first: float | None = None
        """When the first one came, in seconds since the epoch."""

    def pass_on(self) -> None:
        """Forward from now on. Has no effect outside the main thread."""
        with suppress(ValueError):
            signal.signal(signal.SIGINT, self._interrupt)

    def _interrupt(self, number: int, frame: FrameType | None) -> NoReturn:
        self.first = self.first or time.time()
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt
