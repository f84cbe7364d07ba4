"""Stopping a whole workflow."""

from __future__ import annotations

import signal
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import psutil


def pass_on_interrupts() -> None:
    """Forward SIGINT to the jobs of this process, so that trainings save their state and end.

    A terminal sends SIGINT to the whole process group, but ``kill -INT`` reaches Snakemake alone, which would then wait for its
    trainings to finish. A job may safely receive the signal twice. Has no effect outside the main thread.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                process.send_signal(signal.SIGINT)
        raise KeyboardInterrupt

    with suppress(ValueError):
        signal.signal(signal.SIGINT, interrupt)
