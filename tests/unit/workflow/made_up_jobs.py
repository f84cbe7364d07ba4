"""Jobs of a made-up plan whose outputs are hashes of what they are made from, so that it is known what every file should hold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from model.common.json_files import write_checked
from model.common.provenance import Provenance, basis, contents
from model.workflow.state import Job, Read, State

CODE = {"model.training.loop": "1", "model.losses.distillation": "1"}
KINDS = ("split", "training", "evaluation")


@dataclass(frozen=True)
class Recipe:
    """What a job is made from: kind, specs, code and earlier jobs."""

    kind: str
    spec: dict[str, int]
    code: dict[str, str]
    reads: tuple[int, ...]


@dataclass
class MadeUp:
    """A plan of a few jobs; job ``k`` writes ``job<k>/out`` and ``job<k>/more``, and reads ``out`` of earlier ones."""

    recipes: list[Recipe] = field(default_factory=list)

    def jobs(self, results: Path) -> list[Job]:
        """The plan in a results folder; the last job is wanted for its own sake."""
        return [
            Job(
                name=f"job{number}",
                kind=recipe.kind,
                spec=recipe.spec,
                code=recipe.code,
                inputs={f"input {k}": Read(results / f"job{k}/out", f"job{k}") for k in recipe.reads},
                outputs=(results / f"job{number}/out", results / f"job{number}/more"),
                record=results / f"job{number}/out.made_by.json",
                final=number == len(self.recipes) - 1,
            )
            for number, recipe in enumerate(self.recipes)
        ]

    def expected(self) -> list[str]:
        """What every output should hold."""
        found: list[str] = []
        for recipe in self.recipes:
            found.append(made(recipe.spec, recipe.code, recipe.kind, [found[k] for k in recipe.reads]))
        return found

    def change(self, number: int, **changes: object) -> None:
        """Another plan."""
        self.recipes[number] = replace(self.recipes[number], **changes)  # type: ignore[arg-type]


def made(spec: Mapping[str, int], code: Mapping[str, str], kind: str, read: Iterable[str]) -> str:
    """What a job makes; other code makes another training, and the same split."""
    parts = [spec, sorted(code.items()) if kind != "split" else None, list(read)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def run(job: Job, seconds: float = 3600.0, device: str = "cpu") -> None:
    """Do a job as its script would."""
    read = {name: entry.file for name, entry in job.inputs.items()}
    made_from = basis(job.spec, job.code, read, job.record)
    text = made(job.spec, job.code, job.kind, [file.read_text() for file in read.values()])
    for file in job.outputs:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    record = Provenance(made_from, contents(job.outputs, job.record)).document()
    write_checked(job.record, {**record, "seconds": seconds, "machine": {"device": device}})


def run_all(jobs: Iterable[Job], states: Mapping[str, State]) -> list[str]:
    """Do what is not present, in order, as the workflow would; returns the names."""
    done = []
    for job in jobs:
        if states[job.name].name != "present":
            run(job)
            done.append(job.name)
    return done


def chain(*kinds: str) -> MadeUp:
    """Jobs that each read the one before."""
    return MadeUp(
        [Recipe(kind, {"weight": 10}, CODE, (number - 1,) if number else ()) for number, kind in enumerate(kinds)]
    )
