"""Being asked to stop, and stopping between two iterations instead of in the middle of one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
"""What asks a training to stop: clusters, and Ctrl-C."""


class Interrupted(Exception):
    """Training was asked to stop, and its state is safe.

    Attributes:
        signal_number: which signal asked.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Processes started inside never see a request to stop.

    Clusters and terminals send it to a whole process group. Loading processes that died of it would bring the training down
    before it could save its state; they end with the training anyway.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect the stop signals in a list, so that the loop can end between two iterations.

    Clusters announce the end of a job's time with one of them, and somebody at a terminal presses Ctrl-C. Outside the main
    thread nothing is collected.
    """
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    try:
        before = {number: signal.signal(number, note) for number in STOP_SIGNALS}
    except ValueError:  # not the main thread
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
