"""Whether each job is present, stale or missing, decided by comparing its record with the plan and the content of its files.

Neither file times nor Snakemake's own records matter, so a results folder that was copied, moved or shared has the same state
everywhere. A job is

* **present** if its record has the spec and code of the plan, its inputs are unchanged since it was made, and its outputs are
  as recorded. A deleted output does not matter until another job needs it;
* **missing** if an output that is needed does not exist;
* **stale** otherwise, or if one of its inputs is stale or missing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from model.common.provenance import Basis, Provenance, read_provenance, relative
from model.workflow.contents import Contents

Name = Literal["present", "stale", "missing"]
TRAINED = ("training", "evaluation")
"""Kinds of jobs that are expensive and whose results depend on every detail of the code."""


@dataclass(frozen=True)
class Read:
    """An input of a job.

    Attributes:
        file: what is read.
        made_by: name of the job that makes it; None if it comes from outside.
    """

    file: Path
    made_by: str | None = None


@dataclass(frozen=True)
class Job:
    """A job of a plan, as far as its state is concerned.

    Attributes:
        name: folder or file below the results.
        kind: such as ``training``.
        spec: plain data.
        code: module → fingerprint.
        inputs: name → what is read.
        outputs: files.
        record: file that says what the outputs were made from; one of the outputs, or a file beside them.
        final: whether its outputs are wanted for their own sake, not just as inputs of other jobs.
        changes: other known changes since it was made, one phrase each.
    """

    name: str
    kind: str
    spec: Any
    code: Mapping[str, str]
    inputs: Mapping[str, Read]
    outputs: tuple[Path, ...]
    record: Path
    final: bool = False
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reason:
    """Why a job is not present.

    Attributes:
        text: follows the name of the job.
        kind: ``basis`` if it was made from something other than what the plan says, ``upstream`` if that depends on the outcome
            of another job that runs again, ``output`` if an output is missing or damaged, ``record`` without a valid record.
        certain: False if the present outputs may still turn out to be valid.
    """

    text: str
    kind: Literal["basis", "upstream", "output", "record"] = "basis"
    certain: bool = True


@dataclass(frozen=True)
class State:
    """State of a job's outputs.

    Attributes:
        name: present, stale or missing.
        reasons: empty if present.
        provenance: content of the record; None without a valid one.
        complete: whether every output exists and is as recorded.
        damaged: whether an output exists but is not as recorded.
        kept: whether the job, or one of its inputs, was made under other code or another configuration and accepted.
    """

    name: Name
    reasons: tuple[Reason, ...] = ()
    provenance: Provenance | None = None
    complete: bool = False
    damaged: bool = False
    kept: bool = False

    @property
    def certain(self) -> bool:
        """Whether the job has to run again in any case."""
        return any(reason.certain for reason in self.reasons)


def states(jobs: Iterable[Job], contents: Contents) -> dict[str, State]:
    """The state of every job.

    Args:
        jobs: each after those that make its inputs.
        contents: of files.

    Returns:
        Name of job → state, in the order of the jobs.
    """
    listed = {job.name: job for job in jobs}
    found = recorded_states(listed.values(), contents)
    _ask_for_deleted(listed, found)
    return found


def recorded_states(jobs: Iterable[Job], contents: Contents) -> dict[str, State]:
    """Like :func:`states`, but without asking for deleted outputs that other jobs need."""
    listed = {job.name: job for job in jobs}
    contents.read_ahead(_files(listed.values()))
    found: dict[str, State] = {}
    for job in listed.values():
        found[job.name] = _recorded(job, listed, found, contents)
    return found


def input_content(
    name: str, job: Job, jobs: Mapping[str, Job], states: Mapping[str, State], contents: Contents
) -> str | None:
    """SHA-256 of an input; for a deleted one, as recorded by the job that made it; None if neither is known."""
    read = job.inputs[name]
    content = contents.of(read.file)
    if content is None and read.made_by is not None:
        maker, record = jobs[read.made_by], states[read.made_by].provenance
        content = None if record is None else record.outputs.get(relative(read.file, maker.record.parent))
    return content


def differences(made_with: Any, wanted: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Where two specs differ: the path and both values, ``ABSENT`` where one has none."""
    if isinstance(made_with, Mapping) and isinstance(wanted, Mapping):
        for key in dict.fromkeys([*made_with, *wanted]):
            yield from differences(made_with.get(key, ABSENT), wanted.get(key, ABSENT), (*path, str(key)))
    elif made_with != wanted:
        yield path, made_with, wanted


class _Absent:
    def __repr__(self) -> str:
        return "nothing"


ABSENT = _Absent()
"""No value at all."""


def _files(jobs: Iterable[Job]) -> Iterator[Path]:
    for job in jobs:
        yield from job.outputs
        yield from (read.file for read in job.inputs.values())


def _recorded(job: Job, jobs: Mapping[str, Job], states: Mapping[str, State], contents: Contents) -> State:
    record = read_provenance(job.record)
    absent = [file.name for file in job.outputs if not file.is_file()]
    if record is None and absent:
        return State("missing", (Reason("has not been made", "record", job.kind in TRAINED),))
    if record is None:
        edited = f"{job.record.name} is damaged or was edited: only a copy of it, put back, tells what it was made from"
        why = edited if job.record.is_file() else "nothing records what it was made from"
        return State("stale", (Reason(why, "record"),))
    basis = record.counts_as
    reasons = [Reason(text) for text in spec_differences(basis.spec, job.spec)]
    if (text := code_difference(basis.code, job.code)) is not None:
        reasons.append(Reason(text, certain=job.kind in TRAINED))
    reasons += [Reason(text) for text in job.changes]
    reasons += _input_reasons(job, basis, jobs, states, contents)
    damaged = _damaged(job, record, contents)
    reasons += [Reason(f"{name} does not hold what was written to it", "output", False) for name in damaged]
    kept = bool(record.kept) or any(states[r.made_by].kept for r in job.inputs.values() if r.made_by is not None)
    missing = bool(absent) and (bool(reasons) or job.final)
    if missing:
        reasons.insert(0, Reason(f"{', '.join(absent)} is not there", "output", False))
    name: Name = "missing" if missing else "stale" if reasons else "present"
    return State(name, tuple(reasons), record, not absent and not damaged, bool(damaged), kept)


def _damaged(job: Job, record: Provenance, contents: Contents) -> list[str]:
    found = []
    for file in job.outputs:
        name = relative(file, job.record.parent)
        if file != job.record and contents.of(file) not in (None, record.outputs.get(name)):
            found.append(name)
    return found


def _input_reasons(
    job: Job, basis: Basis, jobs: Mapping[str, Job], states: Mapping[str, State], contents: Contents
) -> Iterator[Reason]:
    for name in dict.fromkeys([*job.inputs, *basis.inputs]):
        if name not in basis.inputs:
            yield Reason(f"made without a {name}, the configuration has one")
        elif name not in job.inputs:
            yield Reason(f"made with a {name}, the configuration has none")
        else:
            read, recorded = job.inputs[name], basis.inputs[name]
            upstream = None if read.made_by is None else states[read.made_by]
            if upstream is not None and upstream.name != "present":
                planned = relative(read.file, job.record.parent)
                if planned == recorded.file:
                    yield Reason(f"its {name} is made again", "upstream", upstream.certain)
                else:
                    old, new = _distinct(recorded.file, planned)
                    yield Reason(f"made with {name} {old}, the configuration says {new}")
            elif input_content(name, job, jobs, states, contents) not in (None, recorded.sha256):
                yield Reason(f"{read.file} is not the {name} that it was made from")


def _ask_for_deleted(jobs: Mapping[str, Job], states: dict[str, State]) -> None:
    """Mark deleted outputs as missing if a job that will run reads them, and everything that depends on them as stale."""
    users: dict[str, list[tuple[str, str]]] = {}
    for job in jobs.values():
        for name, read in job.inputs.items():
            if read.made_by is not None:
                users.setdefault(read.made_by, []).append((job.name, name))
    pending = [name for name, state in states.items() if state.name != "present"]
    while pending:
        asking = pending.pop()
        for read in jobs[asking].inputs.values():
            maker = read.made_by
            if maker is not None and states[maker].name == "present" and not read.file.is_file():
                why = Reason(f"{read.file.name} was deleted, and is needed again", "output", False)
                states[maker] = replace(states[maker], name="missing", reasons=(why,))
                pending.append(maker)
        for user, through in users.get(asking, ()):
            if states[user].name == "present":
                why = Reason(f"its {through} is made again", "upstream", states[asking].certain)
                states[user] = replace(states[user], name="stale", reasons=(why,))
                pending.append(user)


def spec_differences(made_with: Any, wanted: Any) -> list[str]:
    """A phrase for each difference of two specs: ``made with distillation_weight 10, the configuration says 999``."""
    found = []
    for path, old, new in differences(made_with, wanted):
        values = shown(old), shown(new)
        if None in values:
            found.append(f"made with other {_key(path)} than the configuration says")
        else:
            found.append(f"made with {_key(path)} {values[0]}, the configuration says {values[1]}")
    return found


def code_difference(made_with: Mapping[str, str], present: Mapping[str, str], most: int = 4) -> str | None:
    """``model.training.loop has changed``, or None if nothing has."""
    if made_with == present:
        return None
    names = dict.fromkeys([*made_with, *present])
    changed = sorted(name for name in names if made_with.get(name) != present.get(name))
    rest = len(changed) - most
    more = f" and {rest} more modules" if rest > 0 else ""
    return f"{', '.join(changed[:most])}{more} {'has' if len(changed) == 1 else 'have'} changed"


def shown(value: Any, most: int = 60) -> str | None:
    """A value of a spec as written in a configuration; None if it is too long for a line."""
    if isinstance(value, float):
        text = f"{value:g}"
    elif isinstance(value, str) or value is ABSENT:
        text = str(value)
    else:
        text = json.dumps(value, ensure_ascii=False).replace('"', "")
    return text if len(text) <= most else None


_WRAPPERS = ("method", "hyper_parameters"), ("recipe",)


def _key(path: tuple[str, ...]) -> str:
    for wrapper in _WRAPPERS:
        if len(path) > len(wrapper) and path[: len(wrapper)] == wrapper:
            path = path[len(wrapper) :]
    return ".".join(path) or "values"


def _distinct(old: str, new: str) -> tuple[str, str]:
    """Two paths without their common leading folders."""
    ours, theirs = [Path(text).parts for text in (old, new)]
    same = 0
    while same < min(len(ours), len(theirs)) - 1 and ours[same] == theirs[same]:
        same += 1
    return "/".join(ours[same:]), "/".join(theirs[same:])
