"""What a workflow is doing now, told by its results folder alone: another process, or another machine, may run it.

A job is done if its state is present (:mod:`model.workflow.state`). A training that runs says how far it is in a small file of
its own (:mod:`model.training.status`), an evaluation has the lock of its work folder. Nothing is locked or written here.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from model.training.status import is_running, read_status
from model.workflow.results_folder import LOCK, last_words
from model.workflow.state import TRAINED, Job, State

SILENT_MINUTES = 20
"""A process of another machine that has said nothing for so long is shown with a remark."""
_HOLDER = re.compile(r"process (?P<process>\d+) on (?P<host>.+) since (?P<since>[\d-]+ [\d:]+)")
_KILLED = "ended without saying why: it was killed, most often because memory or time ran out"


@dataclass(frozen=True)
class Running:
    """A training or evaluation that runs.

    Attributes:
        name: folder below the results.
        kind: ``training`` or ``evaluation``.
        where: machine, SLURM job, GPU.
        iteration, iterations, rate, left: as in :class:`model.training.status.Status`.
        silent: seconds since it last said something, if that is long and nobody can tell whether it still runs.
    """

    name: str
    kind: str
    where: str
    iteration: int | None = None
    iterations: int | None = None
    rate: float | None = None
    left: float | None = None
    silent: float | None = None


@dataclass(frozen=True)
class Ended:
    """A job that ended before it was done, and has not been started again.

    Attributes:
        name: of the job, or of its log.
        said: its last words.
        stopped: whether it was asked to stop, which is no failure.
    """

    name: str
    said: str
    stopped: bool = False


@dataclass(frozen=True)
class Overview:
    """A workflow at one moment.

    Attributes:
        workflow: what is known about the process that runs it.
        jobs: kind → number of jobs.
        done: kind → number of those that are done.
        running: what runs.
        ended: what failed or was stopped.
        waiting: names of the trainings and evaluations that are none of these.
    """

    workflow: str
    jobs: Mapping[str, int]
    done: Mapping[str, int]
    running: tuple[Running, ...]
    ended: tuple[Ended, ...]
    waiting: frozenset[str]


@dataclass
class Watch:
    """Looks at a results folder again and again; logs that have not changed are not read again.

    Attributes:
        results: the folder.
    """

    results: Path
    _said: dict[Path, tuple[float, list[str]]] = field(default_factory=dict, init=False)

    def look(self, jobs: Iterable[Job], states: Mapping[str, State]) -> Overview:
        """The present moment.

        Args:
            jobs: of the plan.
            states: of the jobs.
        """
        jobs = list(jobs)
        workflow, since = self._workflow()
        count: dict[str, int] = {}
        done: dict[str, int] = {}
        running: list[Running] = []
        ended: list[Ended] = []
        waiting: set[str] = set()
        for job in jobs:
            count[job.kind] = count.get(job.kind, 0) + 1
            done.setdefault(job.kind, 0)
            if states[job.name].name == "present":
                done[job.kind] += 1
            elif job.kind in TRAINED:
                found = self._training(job, since) if job.kind == "training" else self._evaluation(job, since)
                if isinstance(found, Running):
                    running.append(found)
                elif isinstance(found, Ended):
                    ended.append(found)
                else:
                    waiting.add(job.name)
        ended += self._others(since)
        return Overview(workflow, count, done, tuple(running), tuple(ended), frozenset(waiting))

    def _workflow(self) -> tuple[str, float]:
        """The process that has the folder, or had it last, and when it began in seconds since the epoch."""
        lock = self.results / LOCK
        try:
            holder, began = lock.read_text(encoding="utf-8").strip(), lock.stat().st_mtime
        except (OSError, UnicodeDecodeError):
            return "no workflow has run here yet", 0.0
        alive = _alive(holder)
        if alive is None:
            return f"workflow: {holder}, which cannot be seen from here", began
        return f"workflow: {holder}" if alive else f"no workflow is running; the last one was {holder}", began

    def _training(self, job: Job, since: float) -> Running | Ended | None:
        status = read_status(self.results / "work" / job.name)
        log = self.results / "logs" / job.name / "train.log"
        if status is None or status.written < since:  # by a job of an earlier workflow, unless it still runs
            log = log if log.exists() else log.with_name("import.log")
            if status is None or not is_running(status.host, status.process, status.created):
                return self._ended(job.name, log, since)
        alive = is_running(status.host, status.process, status.created)
        said = self._ended(job.name, log, since)
        if alive is False or (alive is None and said is not None):
            return said or Ended(job.name, f"{_KILLED}  [{log}]")
        places = [status.host, f"SLURM job {status.slurm_job}" if status.slurm_job else None]
        places += [status.device if status.processes == 1 else f"{status.processes} × {status.device}"]
        silent = time.time() - status.written
        return Running(
            job.name,
            job.kind,
            ", ".join(filter(None, places)),
            status.iteration,
            status.iterations,
            status.rate,
            status.left,
            silent if alive is None and silent > 60 * SILENT_MINUTES else None,
        )

    def _evaluation(self, job: Job, since: float) -> Running | Ended | None:
        training, _, variant = job.name.partition("/evaluation/")
        ended = self._ended(job.name, self.results / "logs" / training / f"evaluate_{variant}.log", since)
        user = self.results / "work" / job.name / "user"
        with suppress(OSError, UnicodeDecodeError):
            holder = user.read_text(encoding="utf-8").strip()
            alive = _alive(holder)
            if alive or (alive is None and ended is None and user.stat().st_mtime >= since):
                match = _HOLDER.fullmatch(holder)
                return Running(job.name, job.kind, match["host"] if match else "")
        return ended

    def _ended(self, name: str, log: Path, since: float) -> Ended | None:
        """What the log of a job that is not done says about its end, if the present workflow started it."""
        said = self._last_words(log, since)
        return Ended(name, said[-1], said[-1].startswith("stopped by ")) if said else None

    def _others(self, since: float) -> list[Ended]:
        """Failures of jobs that are neither trainings nor evaluations."""
        logs = self.results / "logs"
        found = []
        for folder in (logs, *(logs / name for name in ("data", "lists", "splits", "memory", "figures"))):
            for log in sorted(folder.glob("*.log") if folder == logs else folder.rglob("*.log")):
                if said := self._last_words(log, since):
                    found.append(Ended(log.relative_to(logs).with_suffix("").as_posix(), said[-1]))
        return found

    def _last_words(self, log: Path, since: float) -> list[str]:
        try:
            written = log.stat().st_mtime
            if written < since:
                return []
            known = self._said.get(log)
            if known is None or known[0] != written:
                self._said[log] = known = (written, last_words(log))
        except OSError:
            return []
        return known[1]


def _alive(holder: str) -> bool | None:
    """Whether the process that signed a lock still runs; None if nobody here can tell."""
    match = _HOLDER.fullmatch(holder)
    if match is None:
        return None
    since = datetime.strptime(match["since"], "%Y-%m-%d %H:%M:%S").timestamp()
    return is_running(match["host"], int(match["process"]), since)
