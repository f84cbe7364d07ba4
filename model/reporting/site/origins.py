"""Where each number of the site comes from: the records of trainings and evaluations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.common.files import FileError, read_json
from model.reporting.collect import step_of
from model.workflow.plan import Plan
from model.workflow.state import State

_FACTS = ("started", "ended", "seconds", "iterations")


def origins(plan: Plan, results: Path, states: Mapping[str, State]) -> list[dict[str, Any]]:
    """One entry per run, step and protocol: identity, state, and the records of its training and evaluation."""
    found = []
    for run in plan.runs:
        for protocol, evaluations in run.evaluations.items():
            for position, evaluation in enumerate(evaluations):
                training = run.trainings[position]
                trained = _read(results / training.directory / "train.json")
                evaluated = _read(results / evaluation.directory / "evaluation.json").get("made_by", {})
                git = trained.get("git") or {}
                found.append(
                    {
                        "dataset": run.dataset,
                        "task": run.task,
                        "scenario": run.scenario.name,
                        "setting": run.setting,
                        "recipe": run.recipe,
                        "method": run.method,
                        "seed": run.seed,
                        "step": step_of(run, position),
                        "protocol": protocol,
                        "state": f"{states[training.directory].name}, evaluation {states[evaluation.directory].name}",
                        "revision": f"{git.get('revision') or 'unknown'}{' with local changes' if git.get('dirty') else ''}",
                        "device": (trained.get("machine") or {}).get("device", "unknown"),
                        "folder": training.directory,
                        "details": [
                            ("Specification of the training", _text(training.spec)),
                            ("Specification of the evaluation", _text(evaluation.spec)),
                            ("Training", _text({name: trained[name] for name in _FACTS if name in trained})),
                            ("Versions", _text(trained.get("versions", {}))),
                            ("Machine", _text(trained.get("machine", {}))),
                            ("Inputs of the training", _text(trained.get("inputs", {}))),
                            ("Code of the training", str(trained.get("code", "unknown"))),
                            ("Evaluation", _text({name: evaluated[name] for name in _FACTS if name in evaluated})),
                            ("Inputs of the evaluation", _text(evaluated.get("inputs", {}))),
                        ],
                    }
                )
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        found = read_json(path)
    except FileError:
        return {}
    return found if isinstance(found, dict) else {}


def _text(content: Any) -> str:
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False)
