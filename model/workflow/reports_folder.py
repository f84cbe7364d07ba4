"""Whose tables and figures lie in a results folder: several configurations may share one, each has its own.

``tables/`` and ``figures/`` are those of the configuration that ran last. Those of another configuration move to
``other_configurations/<name>/`` when this one starts, and back when it runs again. A configuration is known by its files; one
that says the same elsewhere, as after a project was moved, is the same one.
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
"""File of a results folder that names the configuration whose reports lie there."""

OTHERS = "other_configurations"
OWNER_AMONG_OTHERS = "configuration.json"
"""The same in a folder of ``OTHERS``."""

REPORTS = ("tables", "figures")
REPORT_KINDS = ("tables", "figures", "gallery")
"""Kinds of the jobs that write into them."""


@dataclass(frozen=True)
class Owner:
    """A configuration that tables and figures are made for.

    Attributes:
        files: absolute paths of the files that it was read from.
        content: hash of everything it says besides where its results lie.
    """

    files: tuple[str, ...]
    content: str

    @classmethod
    def of(cls, plan: Plan, files: Sequence[str | Path]) -> Owner:
        """The owner that a plan stands for."""
        return cls(tuple(os.path.abspath(file) for file in files), short_hash(canonical_json(tables_spec(plan)), 16))

    @property
    def title(self) -> str:
        """What it is called in messages."""
        return self.files[-1] if self.files else "another configuration"

    @property
    def name(self) -> str:
        """Name of its folder among others: ``config-1a2b3c``."""
        stem = Path(self.files[-1]).stem if self.files else "configuration"
        return f"{stem}-{short_hash(' '.join(self.files), 6)}"

    def same(self, other: Owner) -> bool:
        """Whether two are one configuration, which may have been edited, or moved, in between."""
        return self.files == other.files or self.content == other.content


def read_owner(results: Path) -> Owner | None:
    """The configuration whose reports lie in a results folder; None if nothing says it."""
    return _read(results / OWNER)


def _read(file: Path) -> Owner | None:
    try:
        content = read_json(file)
        return Owner(tuple(map(str, content["files"])), str(content["content"]))
    except (FileError, KeyError, TypeError):
        return None


def reports_of(owner: Owner, results: Path) -> Path:
    """Folder that holds ``tables/`` and ``figures/`` of a configuration: the results folder itself, or one inside it."""
    present = read_owner(results)
    return results if present is None or present.same(owner) else _aside(owner, results)


def _aside(owner: Owner, results: Path) -> Path:
    """Folder of a configuration among others: the one that is recorded as its own, or a new one."""
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
        results: where everything lies.
        files: that the configuration was read from.
        raw: how raw data stand to what was prepared; None looks.
        say: told if much has to be read.
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
    """Make room for the reports of a configuration, and bring earlier ones of its own back.

    Returns:
        What happened to the reports of another configuration, in a line; None if there were none.

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
        if own != aside:  # both may be called the owner of one folder: by its file and by its content
            for name in REPORTS:
                _move(own / name, results / name)
            (own / OWNER_AMONG_OTHERS).unlink(missing_ok=True)
            with suppress(OSError):
                own.rmdir()
    if present != owner:
        _write(owner, results / OWNER)
    return told


def _move(source: Path, target: Path) -> None:
    """Move a folder with everything in it; files of the same names are replaced, others stay."""
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
