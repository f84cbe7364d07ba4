"""Going on in the middle of a step after the process was stopped.

Snapshots are kept in a work directory that is not a declared output, since the workflow deletes the outputs of a job that did
not finish. A snapshot belongs to one *key*: hashes of everything the result depends on. A snapshot of another key is
refused, and the log says what differs, so an edited configuration never continues another training. The name of a
snapshot holds the checksum of its content: damage is detected, and the previous one is used instead.
"""

from __future__ import annotations

import hashlib
import math
import re
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import torch

from model.common.files import FileError, atomic_file
from model.common.provenance import checksum, parts_key
from model.training.checkpoint import CheckpointError, load_data, refuse_unsafe, to_cpu

SNAPSHOT_MINUTES = "SEGUE_SNAPSHOT_MINUTES"
"""Environment variable with the time between two snapshots."""
KEPT = 2
"""Snapshots on disk; the older one is for the case that the newer turns out unreadable."""

NAME = re.compile(r"snapshot-(?P<key>[0-9a-f]{12})-(?P<iteration>\d{9})-(?P<checksum>[0-9a-f]{16})\.pt")


@dataclass(frozen=True)
class ResumeKey:
    """What the result of a training depends on.

    Attributes:
        parts: name of each part, such as ``specification`` or ``previous checkpoint``, to the hash of its content
            (``model.common.provenance.Basis.parts``).
    """

    parts: Mapping[str, str]

    @property
    def digest(self) -> str:
        """One hash of all parts."""
        return parts_key(self.parts)

    def differences(self, other: Mapping[str, str]) -> list[str]:
        """Names of the parts in which another key differs."""
        names = dict.fromkeys([*self.parts, *other])
        return [name for name in names if self.parts.get(name) != other.get(name)]


def say_on_stderr(text: str) -> None:
    """The default receiver of messages."""
    print(text, file=sys.stderr, flush=True)


class SnapshotError(ValueError):
    """An invalid time between snapshots."""


def snapshot_minutes(wanted: float | None, environment: Mapping[str, str]) -> float:
    """Minutes between two snapshots: the given value, else that of the environment, else 10.

    Raises:
        SnapshotError: naming the variable, if it holds no number of at least 0.
    """
    if wanted is not None:
        return wanted
    text = environment.get(SNAPSHOT_MINUTES, "10")
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 <= minutes < math.inf:
        raise SnapshotError(f"{SNAPSHOT_MINUTES} is '{text}': expected minutes between two snapshots, such as 10")
    return minutes


@dataclass
class Snapshots:
    """Numbered snapshots of one training in a folder that no other process uses meanwhile.

    Attributes:
        folder: made when the first one is written.
        key: what the training depends on.
        seconds: at least this long between two periodic snapshots.
        say: called with what is continued, and what is refused and why.
        clock: seconds of a clock that never goes back.
    """

    folder: Path
    key: ResumeKey
    seconds: float = 600.0
    say: Callable[[str], None] = say_on_stderr
    clock: Callable[[], float] = time.monotonic
    _began: float = field(init=False)
    _last: float = field(init=False)
    _earlier: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._began = self._last = self.clock()

    @property
    def spent(self) -> float:
        """Seconds since this object was made, and those that led to the snapshot from which training continues."""
        return self._earlier + self.clock() - self._began

    @property
    def due(self) -> bool:
        """Whether it is time for a periodic snapshot."""
        return self.clock() - self._last >= self.seconds

    def save(self, iteration: int, content: dict[str, Any]) -> bool:
        """Write a snapshot, then remove all but the newest two of this key.

        Returns:
            Whether it was written. If the disk is full, a line says so and training continues; what was saved before stays.

        Raises:
            CheckpointError: if the content holds more than tensors and plain values.
        """
        refuse_unsafe(content, "snapshot")
        self._last = self.clock()
        unnamed = self.folder / "unnamed.pt"
        try:
            with atomic_file(unnamed) as file:
                hashing = _HashingFile(file)
                whole = {"key": dict(self.key.parts), "iteration": iteration, "seconds": self.spent}
                whole["content"] = to_cpu(content)
                torch.save(whole, hashing)  # type: ignore[arg-type]  # it needs write and flush alone
            name = f"snapshot-{self.key.digest[:12]}-{iteration:09d}-{hashing.digest.hexdigest()[:16]}.pt"
            unnamed.replace(self.folder / name)
        except (OSError, FileError) as error:
            self.say(f"{self.folder}: no snapshot after iteration {iteration} ({error}); training continues without it")
            return False
        kept = self._own()[:KEPT]
        for path in self._files():
            if path not in kept:
                path.unlink(missing_ok=True)
        return True

    def load(self) -> tuple[int, dict[str, Any]] | None:
        """Iteration and content of the newest undamaged snapshot of this key, or None."""
        self._remove_unfinished()
        for path in self._own():
            snapshot = self._read(path)
            if snapshot is not None and snapshot["key"] == self.key.parts:
                self.say(f"continuing after iteration {snapshot['iteration']}, from {path}")
                self._earlier = float(snapshot["seconds"])
                return int(snapshot["iteration"]), snapshot["content"]
        self._refuse_foreign()
        return None

    def clear(self) -> None:
        """Remove every snapshot: the step is finished."""
        self._remove_unfinished()
        for path in self._files():
            path.unlink(missing_ok=True)

    def _files(self) -> list[Path]:
        """All snapshots, later iterations first."""
        found = [
            (match["iteration"], path) for path in self.folder.glob("*.pt") if (match := NAME.fullmatch(path.name))
        ]
        return [path for _, path in sorted(found, reverse=True)]

    def _own(self) -> list[Path]:
        return [path for path in self._files() if path.name.startswith(f"snapshot-{self.key.digest[:12]}-")]

    def _remove_unfinished(self) -> None:
        """What a process left that was killed while it wrote."""
        for path in [*self.folder.glob(".*.part"), *self.folder.glob("unnamed.pt")]:
            path.unlink(missing_ok=True)

    def _read(self, path: Path) -> dict[str, Any] | None:
        """Content of a snapshot with a matching checksum; otherwise None, with a message."""
        try:
            if not path.stem.endswith(checksum(path)[:16]):
                raise CheckpointError("its checksum is wrong")
            snapshot = load_data(path)
            if not (isinstance(snapshot, dict) and snapshot.keys() >= {"key", "iteration", "seconds", "content"}):
                raise CheckpointError("it is not a snapshot")
        except (CheckpointError, OSError) as error:
            self.say(f"{path}: damaged, not used ({error}); an older snapshot is used if there is one")
            return None
        return snapshot

    def _refuse_foreign(self) -> None:
        """Say why snapshots of other keys are not continued; once per key."""
        told = set()
        for path in self._files():
            prefix = path.name.split("-")[1]
            if prefix not in told and not self.key.digest.startswith(prefix):
                told.add(prefix)
                snapshot = self._read(path)
                if snapshot is not None:
                    what = ", ".join(self.key.differences(snapshot["key"]))
                    self.say(f"{path}: refused, it was made with another {what}; training starts from the beginning")


class _HashingFile:
    """A file that computes the checksum of what is written to it, in passing."""

    def __init__(self, file: BinaryIO) -> None:
        self.digest = hashlib.sha256()
        self._file = file

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
