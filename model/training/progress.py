"""What a running step reports: lines in the log, a bar on a terminal, curves on disk, and TensorBoard if it is installed.

Weights & Biases and MLflow get the same curves where the machine asks for them (:mod:`model.training.trackers`). Curves are
averages over equal stretches of iterations and depend on the run alone; lines of the log follow the clock.
"""

from __future__ import annotations

import csv
import io
import math
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from model.common.files import explained, write_text
from model.training.trackers import Trackers

_EVENTS = "events.out.tfevents.*"
"""Names of TensorBoard's files."""


class Averages:
    """Running mean of named values, each over the calls that named it."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Count one more set of values."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """The means since the last call; starts afresh."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums.clear()
        return means

    def state_dict(self) -> dict[str, list[float]]:
        """Plain values to resume from."""
        return {name: [total, count] for name, (total, count) in self._sums.items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self._sums = {name: (total, int(count)) for name, (total, count) in state.items()}


class Progress:
    """The reporter of :func:`model.training.loop.train`.

    Args:
        iterations: of the step.
        log: where lines go.
        seconds: at least this long between two lines.
        rows: number of stretches that the curves divide the step into, at most.
        bar: whether to draw a progress bar on stderr.
        tensorboard: folder for TensorBoard's event files; None writes none, and so does a missing TensorBoard.
        clock: seconds of a clock that never goes back.
        trackers: report the curves elsewhere, too.
        tell: called with each line's ``iteration``, ``iterations``, ``rate`` in iterations a second, and seconds ``left``.
    """

    def __init__(
        self,
        iterations: int,
        *,
        log: TextIO = sys.stdout,
        seconds: float = 10.0,
        rows: int = 200,
        bar: bool = False,
        tensorboard: Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        trackers: Trackers | None = None,
        tell: Callable[..., None] | None = None,
    ) -> None:
        self.iterations = iterations
        self.curves: list[dict[str, float]] = []
        self._stretch = max(1, math.ceil(iterations / rows))
        self._for_curve = Averages()
        self._for_line = Averages()
        self._log = log
        self._seconds = seconds
        self._clock = clock
        self._tell = tell
        self._began = self._last_line = clock()
        self._start = self._last_iteration = self._done = 0
        self._bar = tqdm(total=iterations, unit="it", file=sys.stderr, leave=False) if bar else None
        self._tensorboard, self._trackers = tensorboard, trackers
        self._events: Any = None
        if tensorboard is not None:
            with self._without_events_if_not_written():
                self._events = _event_writer(tensorboard)

    def iteration(self, iteration: int, learning_rate: float, terms: Mapping[str, float]) -> None:
        """Count one optimiser step; ``iteration`` starts at 1."""
        self._done = iteration
        self._for_curve.add(terms)
        self._for_line.add(terms)
        if iteration % self._stretch == 0 or iteration == self.iterations:
            self._add_row(iteration, learning_rate)
        if self._bar is not None:
            self._bar.update()
        now = self._clock()
        if now - self._last_line >= self._seconds or iteration == self.iterations:
            self._write_line(iteration, learning_rate, now)

    def close(self) -> None:
        """End the bar and the event file."""
        if self._bar is not None:
            self._bar.close()
        if self._events is not None:
            with self._without_events_if_not_written():
                self._events.close()

    def write_curves(self, path: Path) -> None:
        """CSV with one row a stretch: ``iteration``, ``learning_rate``, every loss term, their ``total``."""
        names = dict.fromkeys(name for row in self.curves for name in row)
        first, last = ("iteration", "learning_rate"), ("total",)
        columns = [*first, *(name for name in names if name not in first + last), *last]
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{value:.9g}" for name, value in row.items()} for row in self.curves)
        write_text(path, text.getvalue())

    def state_dict(self) -> dict[str, Any]:
        """Plain values to continue the curves from."""
        curves = [dict(row) for row in self.curves]
        return {"iteration": self._done, "curves": curves, "stretch": self._for_curve.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self._start = self._last_iteration = self._done = int(state["iteration"])
        self.curves = [dict(row) for row in state["curves"]]
        self._for_curve.load_state_dict(state["stretch"])
        if self._bar is not None:
            self._bar.update(self._done)
        for row in self.curves:
            self._write_events(row)

    def _add_row(self, iteration: int, learning_rate: float) -> None:
        row = {"iteration": float(iteration), "learning_rate": learning_rate, **self._for_curve.take()}
        self.curves.append(row)
        self._write_events(row)

    def _write_events(self, row: Mapping[str, float]) -> None:
        tags = {name: name if name == "learning_rate" else f"loss/{name}" for name in row if name != "iteration"}
        values = {tag: row[name] for name, tag in tags.items()}
        if self._trackers is not None:
            self._trackers.log(int(row["iteration"]), values)
        if self._events is None:
            return
        with self._without_events_if_not_written():
            for tag, value in values.items():
                self._events.add_scalar(tag, value, int(row["iteration"]))

    @contextmanager
    def _without_events_if_not_written(self) -> Iterator[None]:
        """Events are a convenience: if they cannot be written, a line says so and training continues."""
        try:
            yield
        except OSError as error:
            self._events = None
            file = error.filename or self._tensorboard
            line = f"{file} cannot be written: {explained(error)}; training continues without TensorBoard's events"
            with tqdm.external_write_mode(file=self._log):
                print(line, file=self._log, flush=True)

    def _write_line(self, iteration: int, learning_rate: float, now: float) -> None:
        means = self._for_line.take()
        rate = (iteration - self._last_iteration) / max(now - self._last_line, 1e-9)
        left = (self.iterations - iteration) * (now - self._began) / max(iteration - self._start, 1)
        terms = " ".join(f"{name} {value:.4f}" for name, value in means.items() if name != "total")
        line = (
            f"iteration {iteration}/{self.iterations}  loss {means['total']:.4f} ({terms})  "
            f"lr {learning_rate:.3g}  {rate:.1f} it/s  left {timedelta(seconds=round(left))}"
        )
        with tqdm.external_write_mode(file=self._log):
            print(line, file=self._log, flush=True)
        if self._tell is not None:
            self._tell(iteration=iteration, iterations=self.iterations, rate=rate, left=left)
        self._last_line, self._last_iteration = now, iteration


def _event_writer(folder: Path) -> Any:
    """A writer in place of earlier ones, since curves are written again on resuming; None without TensorBoard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    for file in folder.glob(_EVENTS):
        file.unlink(missing_ok=True)
    if threading.excepthook is not _quiet_events:
        threading.excepthook = _quiet_events
    return SummaryWriter(str(folder))


_excepthook = threading.excepthook


def _quiet_events(problem: Any) -> None:
    """TensorBoard's thread keeps its error for the next call, which reports it in a line; its traceback adds nothing."""
    if not (isinstance(problem.exc_value, OSError) and type(problem.thread).__module__.startswith("tensorboard.")):
        _excepthook(problem)
