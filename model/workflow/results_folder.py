"""A results folder as a whole: only one workflow at a time writes to it; what went wrong in its jobs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from model.common.locks import NamedLock, NoLocksError
from model.common.own_folders import MARKER, ForeignFolderError, check_claimable, is_ours, write_marker
from model.config.messages import ConfigError
from model.config.schema import DatasetEntry
from model.data.prepared.preparation import PREPARED
from model.data.sources import registry as sources

LOCK = ".in-use"
RESULTS = "results"
"""What a results folder holds, according to its marker."""
_WRITTEN = (
    *("data", "lists", "splits", "memory", "base", "imported", "runs", "tables", "figures", "site"),
    *("logs", "benchmarks", "work", "other_configurations"),
)
"""Folders that the workflow writes in the results folder."""
_BUG = "Traceback (most recent call last)"
_AT_ONCE = 2.0
"""Seconds: a terminal interrupts jobs and workflow at the same time, in any order."""
_FAILED = re.compile(r"^\s*Error in (?:rule|group) ([^\s:]+).*\n((?:\s{2,}.*\n)*)", re.MULTILINE)
_LOG = re.compile(r"^\s+log: (.+?)(?: \(check log file.*)?$", re.MULTILINE)
_KILLED = (
    "ended without saying why: it was killed, most often because memory ran out (signal 9); give it more, or run fewer jobs at "
    "once, and start again: a training goes on from its last snapshot"
)
_TOO_LONG = "error: a command was longer than the system allows (argument list too long); please report it with the configuration"


class ResultsError(ValueError):
    """A results folder that cannot be used now; the message names it and the remedy."""


@dataclass
class ResultsLock:
    """The right to write to a results folder, held until the process ends, however it ends.

    Snakemake locks the folder that it is started in. This lock is about the folder that results go to, which workflows started
    in different folders may share.

    Attributes:
        results: made if needed.
    """

    results: Path
    _lock: NamedLock | None = field(default=None, init=False)

    def acquire(self) -> None:
        """Reserve the folder; done again, nothing happens.

        Raises:
            NotWrittenError: if the folder cannot be made or written to.
            ForeignFolderError: if the user's own folders have the names of those that the workflow writes.
            ResultsError: if another workflow has it.
        """
        if self._lock is not None:
            return
        check_results(self.results)
        lock = NamedLock(self.results / LOCK)
        try:
            if not lock.take():
                raise ResultsError(
                    f"{self.results}: another workflow is writing to this folder ({lock.holder}); wait until it has ended, or "
                    "name another folder under 'results' in the configuration"
                )
        except NoLocksError:
            pass  # other workflows cannot be detected
        self._lock = lock
        write_marker(self.results, RESULTS)


def check_folders(results: Path, datasets: Mapping[str, DatasetEntry]) -> None:
    """Refuse a configuration whose results would be among the user's own files; nothing is written.

    Args:
        results: folder of the configuration.
        datasets: that are used, by name.

    Raises:
        ConfigError: naming the key, both folders and the remedy.
    """
    for name, entry in datasets.items():
        try:
            sources.refuse_overlaps(entry.kind, entry.options, name, results)
            check_claimable(results / "data" / name, PREPARED)
        except (ValueError, OSError) as error:
            raise ConfigError(f"datasets.{name}: {error}") from None
    try:
        check_results(results)
    except ForeignFolderError as error:
        raise ConfigError(f"results: {error}") from None


def check_results(results: Path) -> None:
    """Refuse a folder where the workflow would write among the user's own files; nothing is written.

    The folder itself may hold other things, such as a project; but where one of the folders is there already that the workflow
    writes, Segue has to have made it.

    Raises:
        ForeignFolderError: naming the folder.
    """
    if is_ours(results, RESULTS) or _prepared_by_hand(results):
        return
    for name in _WRITTEN:
        if (results / name).exists():
            raise ForeignFolderError(
                f"{results / name} already exists and was not made by Segue ({results} has no {MARKER}), which writes to a "
                "folder of this name: name another folder under 'results'; nothing in it was changed"
            )


def _prepared_by_hand(results: Path) -> bool:
    """Whether single commands of Segue have worked here, without the workflow."""
    return any(is_ours(folder, PREPARED) for folder in results.glob("data/*"))


def failures(logs: Path, since: float, workflow_log: Path | None = None, interrupted: float | None = None) -> list[str]:
    """The last errors of failed jobs, one line per job, in the order in which they ended.

    Args:
        logs: folder of log files.
        since: only logs that were written later, in seconds since the epoch.
        workflow_log: of Snakemake, which names jobs that ended without a word of their own.
        interrupted: when the workflow got SIGINT, in seconds since the epoch. A job that was still importing its libraries may
            end with any error then: compiled ones turn the interrupt into their own.
    """
    written = [(file.stat().st_mtime, file) for file in logs.rglob("*.log")]
    lines, told = [], set()
    for ended, log in sorted(entry for entry in written if entry[0] >= since):
        stopped = interrupted is not None and ended > interrupted - _AT_ONCE
        if found := last_words(log, stopped):
            told.add(log.resolve())
            lines += found
    if workflow_log is None or not workflow_log.is_file():
        return lines
    text = workflow_log.read_text(encoding="utf-8", errors="replace")
    for rule, body in _FAILED.findall(text):
        file = Path(match[1]) if (match := _LOG.search(body)) else None
        if file is None or file.resolve() not in told:
            lines.append(f"error: {rule} {_KILLED}{'' if file is None else f'  [{file}]'}")
    return [*dict.fromkeys(lines), *([_TOO_LONG] if "Argument list too long" in text else [])]


def last_words(file: Path, stopped: bool = False) -> list[str]:
    """Errors that the log of a job tells, or that it was asked to stop; nothing if it tells neither.

    Args:
        file: the log.
        stopped: whether the job ended when the workflow was interrupted.
    """
    text = file.read_text(encoding="utf-8", errors="replace")
    said = [line for line in text.splitlines() if line.startswith(("error: ", "stopped by "))]
    if said:
        return [f"{line}  [{file}]" for line in said]
    if _BUG in text and (stopped or text.rstrip().endswith("KeyboardInterrupt")):
        return [f"stopped by SIGINT before it had begun; run it again to have it done  [{file}]"]
    if _BUG in text:
        return [f"error: {text.rstrip().splitlines()[-1]}; a bug, please report it with {file}"]
    return []
