"""Which configuration the tables and figures of a results folder belong to; several configurations may share a folder.

``tables/`` and ``figures/`` belong to the configuration that ran last. When another one starts, they move to
``other_configurations/<name>/``, and they move back when their own configuration runs again. Configurations are the same if they
were read from the same files or have the same content, so a project can be moved.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from model.common.files import FileError, read_json, write_json
from model.common.fingerprints import canonical_json, short_hash
from model.data.prepared.manifest import RawState
from model.workflow.contents import Contents
from model.workflow.plan import Plan
from model.workflow.plan_jobs import plan_jobs, raw_states, tables_spec
from model.workflow.state import Job, Reason, State, states

OWNER = "work/configuration.json"
"""File in a results folder that names the configuration its reports belong to."""

OTHERS = "other_configurations"
OWNER_AMONG_OTHERS = "configuration.json"
"""The same for a folder in ``OTHERS``."""

REPORTS = ("tables", "figures", "site")
REPORT_KINDS = ("tables", "significance", "figures", "gallery")
"""Kinds of the jobs that write to them."""


@dataclass(frozen=True)
class Owner:
    """A configuration, as the owner of tables and figures.

    Attributes:
        files: absolute paths of the files it was read from.
        content: hash of everything in it except the path of the results folder.
    """

    files: tuple[str, ...]
    content: str

    @classmethod
    def of(cls, plan: Plan, files: Sequence[str | Path]) -> Owner:
        """The owner of a plan's reports."""
        return cls(tuple(os.path.abspath(file) for file in files), short_hash(canonical_json(tables_spec(plan)), 16))

    @property
    def title(self) -> str:
        """Its name in messages."""
        return self.files[-1] if self.files else "another configuration"

    @property
    def name(self) -> str:
        """Name of its folder in ``OTHERS``, such as ``config-1a2b3c``."""
        stem = Path(self.files[-1]).stem if self.files else "configuration"
        return f"{stem}-{short_hash(' '.join(self.files), 6)}"

    def same(self, other: Owner) -> bool:
        """Whether both are the same configuration, possibly edited or moved in between."""
        return self.files == other.files or self.content == other.content


def read_owner(results: Path) -> Owner | None:
    """The configuration that the reports of a results folder belong to; None if it is not recorded."""
    return _read(results / OWNER)


def _read(file: Path) -> Owner | None:
    try:
        content = read_json(file)
        return Owner(tuple(map(str, content["files"])), str(content["content"]))
    except (FileError, KeyError, TypeError):
        return None


def reports_of(owner: Owner, results: Path) -> Path:
    """Folder with ``tables/`` and ``figures/`` of a configuration: the results folder itself or one inside it."""
    present = read_owner(results)
    return results if present is None or present.same(owner) else _aside(owner, results)


def _aside(owner: Owner, results: Path) -> Path:
    """Folder of a configuration in ``OTHERS``: the one recorded as its own, or a new one."""
    for file in sorted((results / OTHERS).glob(f"*/{OWNER_AMONG_OTHERS}")):
        recorded = _read(file)
        if recorded is not None and recorded.same(owner):
            return file.parent
    return results / OTHERS / owner.name


def _write(owner: Owner, file: Path) -> None:
    write_json(file, {"files": list(owner.files), "content": owner.content})


def plan_states(
    plan: Plan,
    results: Path,
    files: Sequence[str | Path],
    raw: Mapping[str, RawState] | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[list[Job], dict[str, State]]:
    """All jobs of a plan, and their states in a results folder that another configuration may have used last.

    Args:
        plan: of the configuration.
        results: the results folder.
        files: that the configuration was read from.
        raw: state of the raw data of each dataset; None determines it.
        say: called with a line if there is a lot to read.
    """
    raw = raw_states(plan, results, plan.datasets) if raw is None else raw
    contents, jobs = Contents(results, say), plan_jobs(plan, results, raw)
    found = states(jobs, contents)
    contents.save()
    owner, present = Owner.of(plan, files), read_owner(results)
    if present is not None and not present.same(owner):
        why = Reason(f"those that are there belong to {present.title}", "output", False)
        found |= {job.name: State("missing", (why,)) for job in jobs if job.kind in REPORT_KINDS}
    return jobs, found


def take_over(owner: Owner, results: Path) -> str | None:
    """Move the reports of another configuration aside and bring back earlier ones of this configuration.

    Returns:
        A line that says where the reports of the other configuration are now; None if there were none.

    Raises:
        NotWrittenError: if the results folder cannot be written to.
        OSError: if a file cannot be moved.
    """
    present, told = read_owner(results), None
    if present is not None and not present.same(owner):
        aside, own = _aside(present, results), _aside(owner, results)
        if any((results / name).exists() for name in REPORTS):
            told = f"tables and figures of {present.title} are now in {aside}"
            _write(present, aside / OWNER_AMONG_OTHERS)
        for name in REPORTS:
            _move(results / name, aside / name)
        if own != aside:  # one folder may match both, by its files and by its content
            for name in REPORTS:
                _move(own / name, results / name)
            (own / OWNER_AMONG_OTHERS).unlink(missing_ok=True)
            with suppress(OSError):
                own.rmdir()
    if present != owner:
        _write(owner, results / OWNER)
    return told


def _move(source: Path, target: Path) -> None:
    """Move the content of a folder; files of the same name are replaced, others stay."""
    if not source.is_dir():
        return
    for entry in sorted(source.iterdir()):
        if entry.is_dir() and not entry.is_symlink():
            _move(entry, target / entry.name)
        else:
            target.mkdir(parents=True, exist_ok=True)
            entry.replace(target / entry.name)
    with suppress(OSError):
        source.rmdir()
