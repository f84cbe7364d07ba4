"""Exclusive locks on files that tell who holds them; the operating system releases them however their holder ends."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from filelock import FileLock, Timeout

from model.common.files import not_written

POLL_SECONDS = 1.0


class NoLocksError(OSError):
    """A file system that knows no locks, as some network file systems do."""


@dataclass
class NamedLock:
    """An exclusive lock on a file, which holds the name of whoever has it.

    Attributes:
        file: made if needed, with its folder; it stays when the lock is released.
    """

    file: Path
    _lock: FileLock | None = field(default=None, init=False)

    @property
    def holder(self) -> str:
        """Process and host of whoever holds the lock, or held it last; empty if that is not known."""
        try:
            return self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return ""

    def take(self, *, wait: bool = False) -> bool:
        """Hold the lock until it is released or the process ends; taken again, nothing happens.

        Args:
            wait: for as long as another process holds it.

        Returns:
            Whether the lock is held now; always so after waiting.

        Raises:
            NotWrittenError: if the file cannot be made or written to.
            NoLocksError: if the file system knows no locks; the file names this process all the same.
        """
        if self._lock is not None:
            return True
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            self.file.open("a").close()
        except OSError as error:
            raise not_written(self.file, error) from error
        # No fall-back to a file that merely exists: that would outlive a holder that is killed.
        lock = FileLock(self.file, fallback_to_soft=False, poll_interval=POLL_SECONDS)
        try:
            lock.acquire(blocking=wait)
        except Timeout:
            return False
        except OSError as error:
            self._sign()
            raise NoLocksError(error.errno, error.strerror, str(self.file)) from error
        self._sign()
        self._lock = lock
        return True

    def release(self) -> None:
        """Let others have it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _sign(self) -> None:
        name = f"process {os.getpid()} on {platform.node()} since {datetime.now():%Y-%m-%d %H:%M:%S}\n"
        try:
            self.file.write_text(name, encoding="utf-8")
        except OSError as error:
            raise not_written(self.file, error) from error


@contextmanager
def exclusive_lock(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a job's work folder for as long as the block runs; wait if another process holds it.

    A job may outlive the workflow that started it and is asked for again while it still runs.

    Args:
        folder: created if needed; its file ``user`` names host and process of the holder.
        say: called if there is something to wait for, or if the file system has no locks.
    """
    lock = NamedLock(folder / "user")
    try:
        if not lock.take():
            say(f"{folder}: {lock.holder or 'another process'} is making this; waiting for it to end")
            lock.take(wait=True)
    except NoLocksError as error:
        say(f"{folder}: no lock ({error}); make sure that no second process makes the same")
    try:
        yield
    finally:
        lock.release()
