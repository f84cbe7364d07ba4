"""Going on in the middle of a step after the process was stopped.

Snapshots live in a work directory that is no declared output, since the workflow deletes the outputs of a job that did
not finish. A snapshot belongs to one *key*: a hash of everything the result depends on. Snapshots of another key are
ignored, so that an edited configuration never continues a foreign training.
"""

from __future__ import annotations

import hashlib
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch

from model.files import atomic_file
from model.training.checkpoint import CheckpointError, load_data, refuse_unsafe, to_cpu

KEPT = 2
"""Snapshots on disk; the older one is for the case that the newer turns out unreadable."""


class Interrupted(Exception):
    """Training was asked to stop, and its state is safe.

    Attributes:
        signal_number: which signal asked.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


def resume_key(texts: Sequence[str], files: Sequence[Path | None]) -> str:
    """Hash of texts (specification, code fingerprint, …) and of the content of files; None stands for no file."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(hashlib.sha256(text.encode()).digest())
    for path in files:
        if path is None:
            digest.update(bytes(32))
        else:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@dataclass
class Snapshots:
    """Numbered snapshots of one training in a folder.

    Attributes:
        folder: made when the first one is written.
        key: of :func:`resume_key`.
        seconds: at least this long between two periodic snapshots.
        clock: seconds of a clock that never goes back.
    """

    folder: Path
    key: str
    seconds: float = 600.0
    clock: Callable[[], float] = time.monotonic
    _last: float = field(init=False)

    def __post_init__(self) -> None:
        self._last = self.clock()

    @property
    def due(self) -> bool:
        """Whether it is time for a periodic snapshot."""
        return self.clock() - self._last >= self.seconds

    def save(self, iteration: int, content: dict[str, Any]) -> None:
        """Write a snapshot, then remove all but the newest two of this key.

        Raises:
            CheckpointError: if the content holds other than tensors and plain values.
        """
        refuse_unsafe(content, "snapshot")
        with atomic_file(self.folder / f"snapshot-{self.key[:12]}-{iteration:09d}.pt") as file:
            torch.save({"key": self.key, "iteration": iteration, "content": to_cpu(content)}, file)
        kept = [path for path in self._files() if path.name.startswith(f"snapshot-{self.key[:12]}-")][:KEPT]
        for old in self._files():
            if old not in kept:
                old.unlink(missing_ok=True)
        self._last = self.clock()

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Iteration and content of the newest readable snapshot of this key, or None."""
        for path in self._files():
            try:
                snapshot = load_data(path)
            except CheckpointError:
                continue
            if isinstance(snapshot, dict) and snapshot.get("key") == self.key:
                return int(snapshot["iteration"]), snapshot["content"]
        return None

    def clear(self) -> None:
        """Remove every snapshot: the step is finished."""
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("snapshot-*.pt"), reverse=True)


STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
"""What asks a training to stop."""


@contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Processes started inside never see a request to stop.

    Clusters send it to a whole process group. Loading processes that died of it would bring the training down before it
    could save its state; they end with the training anyway.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def stop_requests() -> Iterator[list[int]]:
    """Collect the stop signals in a list, so that the loop can end between two iterations.

    Clusters announce the end of a job's time with one of them. Outside the main thread nothing is collected.
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


def random_states() -> dict[str, Any]:
    """The state of every random generator that training draws from, as tensors and plain values."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), np.asarray(keys).tolist(), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: dict[str, Any]) -> None:
    """Put every generator back to where :func:`random_states` found it."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
