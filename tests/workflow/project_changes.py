"""Changes of a project in which the micro configuration has run, and what has to run after them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml
from checkout import MICRO, Job

REPORTS = {"tables", "significance", "figures", "gallery"}
TRAINING, EVALUATION = {"train_base", "train_step"}, {"evaluate_step"}


def edit(folder: Path, file: str, pattern: str, replacement: str) -> None:
    """Replace one place of a file; it must exist."""
    path = folder / file
    text, count = re.subn(pattern, replacement, path.read_text(), count=1, flags=re.MULTILINE)
    assert count == 1, f"{pattern} does not occur in {file}"
    path.write_text(text)


def configure(folder: Path, change: Callable[[dict], None], file: str = MICRO) -> None:
    """Change a configuration."""
    content = yaml.safe_load((folder / file).read_text())
    change(content)
    (folder / file).write_text(yaml.safe_dump(content, sort_keys=False))


def entry(content: dict, method: str) -> dict:
    """A method's entry, made explicit."""
    methods = content["experiments"][0]["methods"]
    for place, found in enumerate(methods):
        if found == method:
            methods[place] = {"name": method}
        if found == method or (isinstance(found, dict) and found["name"] == method):
            return methods[place]
    raise AssertionError(f"{method} is not in the configuration")


@dataclass(frozen=True)
class Expected:
    """Trainings and evaluations by ``method/step``; ``base`` and ``joint`` are the shared ones."""

    trained: frozenset[str]
    evaluated: frozenset[str]


def expect(*trained: str, evaluated: tuple[str, ...] | None = None) -> Expected:
    return Expected(frozenset(trained), frozenset(trained if evaluated is None else evaluated))


def short(job: Job) -> str:
    """``mib/step1`` of an increment, ``base`` or ``joint`` of a shared training."""
    if increment := re.search(r"(?:^|/)runs/[^/]+/[^/]+/[^/]+/([^/]+)/seed\d+/(step\d+)/", job.output):
        return f"{increment[1]}/{increment[2]}"
    classes = re.search(r"_(\d+)-classes_", job.output)
    assert classes is not None, job
    return {"4": "base", "8": "joint"}[classes[1]]


def steps(*methods: str) -> tuple[str, ...]:
    return tuple(f"{method}/step{step}" for method in methods for step in (1, 2))


EVERYTHING = ("base", "joint", *steps("finetuning", "finetuning-replay", "mib", "lwf"))


def of_results(planned: set[Job]) -> Expected:
    """The trainings and evaluations among planned jobs."""
    trained, evaluated = (frozenset(short(j) for j in planned if j.rule in rules) for rules in (TRAINING, EVALUATION))
    return Expected(trained, evaluated)


def check(planned: set[Job], expected: Expected) -> None:
    """Compare a plan with what was expected; tables and pictures follow every evaluation."""
    assert of_results(planned) == expected
    others = {job.rule for job in planned} - TRAINING - EVALUATION
    assert others <= REPORTS and "tables" in others
