"""What would be made again, why, and what it cost when it was made; announced before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from model.workflow.state import TRAINED, Job, State

LINES = 20
"""So many jobs have a line each; more are put together by their reasons."""

ACCEPT = "`make keep` accepts finished results as they are, and marks them in the tables; `make why` lists everything"


@dataclass(frozen=True)
class Cost:
    """Time that finished jobs took.

    Attributes:
        gpu: seconds of jobs that ran on a GPU.
        cpu: seconds of the others.
    """

    gpu: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.gpu + other.gpu, self.cpu + other.cpu)

    def __str__(self) -> str:
        parts = [f"{duration(seconds)} {unit}" for seconds, unit in ((self.gpu, "GPU"), (self.cpu, "CPU")) if seconds]
        return " + ".join(parts) or "cost not recorded"


def cost(state: State) -> Cost:
    """What a finished job took, as its record says."""
    record = state.provenance
    if record is None or record.seconds is None:
        return Cost()
    return Cost(cpu=record.seconds) if record.device in (None, "cpu") else Cost(gpu=record.seconds)


def losses(jobs: Iterable[Job], states: Mapping[str, State]) -> list[str]:
    """Finished trainings and evaluations that would be made again: why, and what they cost; empty if there are none.

    Those whose outputs are not there any more, but needed, have a line of their own: their checkpoints may have been removed.
    Those that are made again only if something that they were made from comes out differently are counted in a line of their own.
    """
    jobs = list(jobs)
    stale = [job for job in jobs if job.kind in TRAINED and _may_be_lost(states[job.name])]
    certain = [job for job in stale if states[job.name].certain]
    gone = [job for job in stale if not states[job.name].certain and not states[job.name].complete]
    others = [job for job in stale if not states[job.name].certain and states[job.name].complete]
    lines = []
    if certain:
        what = f"{counted(certain)}, {total(certain, states)}"
        lines = [f"Finished results that are not of this configuration or code, and are made again: {what}"]
        lines += explained(certain, states)
    if gone:
        what = f"{counted(gone)}, {total(gone, states)}"
        lines.append(
            f"Made again, whatever comes of what they were made from, because files of theirs were removed: {what}"
        )
        lines += explained(gone, states)
    if others:
        lines.append(
            f"Made again only if what they were made from comes out differently: {counted(others)}, {total(others, states)}"
        )
    return [*lines, *_causes(jobs, stale, states), f"{ACCEPT}."] if lines else []


def _may_be_lost(state: State) -> bool:
    """Whether something finished is about to be replaced: outputs without a record, or a record, even if outputs are missing."""
    unrecorded = state.name == "stale" and any(reason.kind == "record" for reason in state.reasons)
    return unrecorded or (state.provenance is not None and state.name != "present")


def _causes(jobs: Iterable[Job], stale: Iterable[Job], states: Mapping[str, State]) -> list[str]:
    """Data, splits and memories that some jobs follow from, and why these are made again."""
    listed = {job.name: job for job in jobs}
    found: dict[str, Job] = {}
    pending = list(stale)
    while pending:
        for read in pending.pop().inputs.values():
            name = read.made_by
            if name is not None and name not in found and states[name].name != "present":
                found[name] = listed[name]
                pending.append(listed[name])
    causes = [job for job in found.values() if job.kind not in TRAINED]
    causes = [job for job in causes if any(reason.kind != "upstream" for reason in states[job.name].reasons)]
    return ["They follow from:", *explained(causes, states)] if causes else []


def everything(jobs: Sequence[Job], states: Mapping[str, State]) -> list[str]:
    """Every job that would run and why, then how many there are of each kind in each state, and what making again costs."""
    lines: list[str] = []
    for name, title in (("missing", "Missing:"), ("stale", "Stale:")):
        found = [job for job in jobs if states[job.name].name == name]
        if found:
            lines += [title, *explained(found, states), ""]
    lost = losses(jobs, states)
    return [
        *lines,
        *summary(jobs, states),
        *(["", *(line for line in lost if not line.startswith("  "))] if lost else []),
    ]


def summary(jobs: Iterable[Job], states: Mapping[str, State]) -> list[str]:
    """``trainings: 8 present, 2 stale`` and so on, a line a kind."""
    counts: dict[str, dict[str, int]] = {}
    for job in jobs:
        of_kind = counts.setdefault(job.kind, {"present": 0, "stale": 0, "missing": 0})
        of_kind[states[job.name].name] += 1
    return [
        f"{plural(kind)}: {', '.join(f'{number} {name}' for name, number in found.items() if number)}"
        for kind, found in counts.items()
    ]


def explained(jobs: Sequence[Job], states: Mapping[str, State]) -> list[str]:
    """A line a job, or a line for all jobs with equal reasons if there are many."""
    if len(jobs) <= LINES:
        return [f"  {job.name}{_cost_text([job], states)}: {why(states[job.name])}" for job in jobs]
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.kind, _general(states[job.name])), []).append(job)
    return [
        f"  {counted(group)}{_cost_text(group, states)}: {reason} ({_some([job.name for job in group])})"
        for (_, reason), group in groups.items()
    ]


def why(state: State, most: int = 3) -> str:
    """The reasons of a state in one line; those of its own first."""
    texts = [reason.text for reason in state.reasons if reason.kind != "upstream"]
    following = [reason.text for reason in state.reasons if reason.kind == "upstream"]
    texts += (
        [f"{len(following)} of the files that it was made from are made again"] if len(following) > 2 else following
    )
    return "; ".join(texts[:most]) + (f"; {len(texts) - most} more reasons" if len(texts) > most else "")


def total(jobs: Iterable[Job], states: Mapping[str, State]) -> Cost:
    """What all of some jobs cost."""
    return sum((cost(states[job.name]) for job in jobs), Cost())


def counted(jobs: Sequence[Job]) -> str:
    """``2 trainings and 3 evaluations``."""
    kinds: dict[str, int] = {}
    for job in jobs:
        kinds[job.kind] = kinds.get(job.kind, 0) + 1
    return " and ".join(f"{number} {plural(kind) if number > 1 else kind}" for kind, number in kinds.items())


def plural(kind: str) -> str:
    """Name of a kind of jobs, for several."""
    return {
        "class index": "class indices",
        "memory": "memories",
        "gallery": "galleries",
        "tables": "tables",
        "figures": "sets of figures",
    }.get(kind, f"{kind}s")


def _general(state: State) -> str:
    """Reasons without the names of single jobs, so that jobs of one cause are put together."""
    own = [reason for reason in state.reasons if reason.kind != "upstream"]
    if own:
        return why(State(state.name, tuple(own)))
    return "what they were made from is made again"


def _cost_text(jobs: Sequence[Job], states: Mapping[str, State]) -> str:
    of_jobs = total(jobs, states)
    return f" ({of_jobs})" if of_jobs != Cost() else ""


def _some(names: Sequence[str], most: int = 2) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f", … {rest} more" if rest > 0 else "")


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    if seconds < 6000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
