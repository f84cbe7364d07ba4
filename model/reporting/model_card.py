"""The model card of an exported checkpoint: what it knows, how it was made, what it scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from model.common.files import FileError, read_json
from model.reporting.escaping import markdown_text
from model.reporting.records import EvaluationRecord, RecordError
from model.reporting.stored_network import StoredNetwork

UNKNOWN_LICENCE = "unknown"


def model_card(path: Path, stored: StoredNetwork, form: str, files: list[str], licence: str = UNKNOWN_LICENCE) -> str:
    """Markdown with the front matter that model hubs read.

    Args:
        path: of the checkpoint; records beside it give values and provenance.
        stored: the checkpoint.
        form: what it is exported as, in words.
        files: that belong to the export.
        licence: under which the weights are published; it is the publisher's to say.
    """
    spec, step = stored.checkpoint.spec, stored.step
    method, recipe = spec["method"], spec["recipe"]
    head = {"license": licence, "tags": ["image-segmentation", "continual-learning", spec["dataset"]]}
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]
    title = f"{method['name']} on {spec['dataset']}, {stored.task}, step {step.index}"
    lines += [f"# {markdown_text(title)}", ""]
    lines += [
        f"A checkpoint of continual segmentation, exported by Segue as {form}: {', '.join(f'`{name}`' for name in files)}.",
        "",
    ]
    facts = {
        "dataset": spec["dataset"],
        "task": stored.task,
        "setting": spec.get("setting", "unknown"),
        "step": f"{step.index}: {len(step.past)} classes before, {len(step.current)} new",
        "classes per step": " + ".join(map(str, stored.checkpoint.classes_per_step)),
        "method": method["name"],
        "hyper-parameters": json.dumps(method["hyper_parameters"]),
        "network": json.dumps(stored.checkpoint.network_arguments),
        "seed": spec.get("seed", "unknown"),
        "training": _length(recipe),
        "input": "RGB, ImageNet mean and deviation" + (f", short side {stored.size}" if stored.size else ""),
        "licence": licence,
    }
    lines += ["| | |", "|---|---|", *(f"| {name} | {markdown_text(str(value))} |" for name, value in facts.items()), ""]
    lines += _values(path, stored)
    lines += [
        "## Classes",
        "",
        "In learning order; output 0 of a network with a background channel is the background.",
        "",
    ]
    lines += ["| place | id | name | kind | step |", "|---|---|---|---|---|"]
    learnt = _step_of_each(stored)
    for place, category in enumerate(stored.classes):
        kind = "thing" if category.isthing else "stuff"
        lines.append(f"| {place + 1} | {category.id} | {markdown_text(category.name)} | {kind} | {learnt[place]} |")
    return "\n".join([*lines, "", "## Provenance", "", *_provenance(path), ""])


def _step_of_each(stored: StoredNetwork) -> list[int]:
    counts, total = stored.checkpoint.classes_per_step, len(stored.classes)
    steps = [step for step, count in enumerate(counts) for _ in range(count)]
    return (steps + [stored.step.index] * total)[:total]


def _length(recipe: dict[str, Any]) -> str:
    if "optimiser" not in recipe:
        return "not by Segue: the weights were imported"
    length = f"{recipe['iterations']} iterations" if recipe.get("iterations") else f"{recipe.get('epochs')} epochs"
    return f"{length} of {recipe['batch_size']} images in this step, {recipe['optimiser']['name']}"


def _values(path: Path, stored: StoredNetwork) -> list[str]:
    lines = []
    for file in sorted(path.resolve().parent.glob("evaluation/*/evaluation.json")):
        try:
            record = EvaluationRecord.read(file)
        except RecordError:
            continue
        if record.classes != stored.checkpoint.classes:
            continue
        for metric, values in record.per_class.items():
            found = [value for value in values.values() if value is not None]
            if found:
                mean = sum(found) / len(found)
                lines.append(f"| {record.protocol} | {metric} | {mean:.2f} | {len(found)} | {record.images} |")
    if not lines:
        return ["## Values", "", "None were measured beside this checkpoint.", ""]
    head = ["| protocol | metric | mean over classes, percent | classes | images |", "|---|---|---|---|---|"]
    return ["## Values", "", *head, *lines, ""]


def _provenance(path: Path) -> list[str]:
    try:
        record = read_json(path.resolve().parent / "train.json")
    except FileError:
        return ["The record of the training is not beside the checkpoint."]
    git, versions = record.get("git") or {}, record.get("versions") or {}
    made = ", ".join(f"{name} {version}" for name, version in versions.items())
    state = " with local changes" if git.get("dirty") else ""
    return [
        f"* made from {record.get('started')} to {record.get('ended')} UTC",
        f"* by code {record.get('code')}, revision {git.get('revision') or 'unknown'}{state}",
        f"* with {made}",
        *(f"* from {name}: SHA-256 {entry.get('sha256')}" for name, entry in (record.get("inputs") or {}).items()),
    ]
