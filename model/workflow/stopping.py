"""Asking a whole workflow to stop."""

from __future__ import annotations

import signal
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import psutil


def pass_on_interrupts() -> None:
    """Have SIGINT reach the jobs of this process as well, so that trainings save their state and end.

    A terminal sends it to all of them. Whoever sends it to Snakemake alone would wait for trainings that know of nothing; one
    that gets it twice takes no harm. Without effect outside the main thread.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    with suppress(ValueError):
        signal.signal(signal.SIGINT, interrupt)
