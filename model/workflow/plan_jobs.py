"""The jobs of a plan in the form in which their state is examined: specs, code, inputs and outputs, files named.

What stands here as a spec or an input is what the scripts of ``workflow_scripts`` record; the two have to agree, or nothing is
ever present.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from model.common.environment import expand
from model.common.fingerprints import PROJECT, canonical_json, job_code
from model.common.provenance import record_beside
from model.data.prepared.manifest import RawState
from model.data.sources import registry as sources
from model.splits.image_lists import ImageListError, find_list
from model.workflow.jobs import (
    Comparison,
    Evaluation,
    MemoryJob,
    Run,
    Split,
    Training,
    evaluation_code,
    training_code,
)
from model.workflow.plan import Plan
from model.workflow.state import Job, Read
from model.workflow.sweeps import Part, Sweep

PUBLISHED = PROJECT / "config" / "published_results.csv"
TABLES = (
    *("metrics.csv", "per_class.csv", "costs.csv", "orders.csv"),
    *("summary.md", "summary.csv", "summary.tex", "summary.html", "headline.html"),
    *("published.md", "published.tex", "published.html"),
)
FIGURES = ("curves", "trade_off", "forgetting", "classes", "losses", "memory")
FIGURE_FORMATS = ("svg", "png")
SWEEP_TABLES = ("csv", "md", "html")
SIGNIFICANCE = "tables/significance"
"""The comparison of each pair of methods."""
AGREEMENT = "figures/rank_agreement"
"""Folder of the comparison of ranks with published tables, for configurations that ask for it."""


def raw_states(plan: Plan, results: Path, datasets: Iterable[str]) -> dict[str, RawState]:
    """How the raw data of some datasets stand to what was prepared from them."""
    found = {}
    for name in datasets:
        entry = plan.dataset(name)
        try:
            found[name] = sources.state_of(
                entry.kind, entry.options, results / "data" / name, entry.verify == "content"
            )
        except (ValueError, OSError) as error:
            found[name] = RawState("unreadable", (f"raw data cannot be read: {error}",))
    return found


def plan_jobs(plan: Plan, results: Path, raw: Mapping[str, RawState] | None = None) -> list[Job]:
    """All jobs of a plan, each after those that make its inputs.

    Args:
        plan: of a configuration.
        results: folder that everything lies in.
        raw: how raw data stand to what was prepared, as far as somebody has looked (:func:`raw_states`).
    """
    return [*result_jobs(plan, results, raw), *_reports(plan, results)]


def result_jobs(plan: Plan, results: Path, raw: Mapping[str, RawState] | None = None) -> list[Job]:
    """Those of :func:`plan_jobs` that tables are made from."""
    changes = {name: state.changes for name, state in (raw or {}).items()}
    memories = sorted(plan.memories.values(), key=lambda memory: memory.step.index)
    return [
        *(job for name in plan.datasets for job in _data(plan, name, results, changes.get(name, ()))),
        *(job for part in plan.parts.values() for job in _part(part, results)),
        *(_split(plan, split, results) for split in plan.splits.values()),
        *(_memory(memory, results) for memory in memories),
        *(_training(training, results) for training in plan.trainings.values()),
        *(_evaluation(evaluation, results) for evaluation in plan.evaluations.values()),
    ]


def preparation_spec(plan: Plan, dataset: str) -> dict[str, Any]:
    """What a prepared dataset depends on besides the raw files."""
    entry = plan.dataset(dataset)
    return {"name": dataset, "kind": entry.kind, "options": entry.model_extra or {}}


def tables_spec(plan: Plan) -> dict[str, Any]:
    """What tables depend on besides the evaluations: the configuration, wherever its results lie."""
    return plan.config.model_dump(exclude_defaults=True, exclude={"results"})


def gallery_spec(run: Run) -> dict[str, Any]:
    """What a gallery depends on besides data and predictions."""
    return {"title": run.method, "classes": [list(known) for known in run.known_after]}


def image_list_file(plan: Plan, split: Split, results: Path) -> Path | None:
    """Where the image list of a split lies, downloaded or the user's own; None without one.

    Raises:
        ImageListError: if the user's own is not there.
    """
    if split.image_list is None:
        return None
    if plan.downloads_lists(split.dataset):
        return results / "lists" / split.dataset / split.image_list.file
    lists = plan.dataset(split.dataset).lists
    assert lists is not None  # or there would be no list
    return find_list(Path(expand(lists.folder)), split.image_list)


def galleries(plan: Plan) -> dict[tuple[str, str], Run]:
    """Runs that have a gallery, by comparison and method."""
    shown = plan.comparisons if plan.config.gallery.images else ()
    runs = ((comparison.name, run) for comparison in shown for run in comparison.first_seed)
    return {(name, run.method): run for name, run in runs if run.released is None}


def _data(plan: Plan, name: str, results: Path, changes: tuple[str, ...]) -> Iterator[Job]:
    manifest = results / "data" / name / "dataset.json"
    code = job_code("prepare_dataset.py", sources.module_of(plan.dataset(name).kind))
    dataset = f"data/{name}/dataset.json"
    spec, record = preparation_spec(plan, name), record_beside(manifest)
    yield replace(_job(dataset, "dataset", spec, code, {}, (manifest,), record), changes=changes)
    yield _class_index(name, results)


def _part(part: Part, results: Path) -> Iterator[Job]:
    file, manifest = f"data/{part.name}/dataset.json", results / "data" / part.name / "dataset.json"
    inputs, code = {"dataset": _dataset(part.whole, results)}, job_code("hold_out.py")
    yield _job(file, "dataset", part.spec, code, inputs, (manifest,), record_beside(manifest))
    yield _class_index(part.name, results)


def _class_index(name: str, results: Path) -> Job:
    index, inputs = results / "data" / name / "class_index.npz", {"dataset": _dataset(name, results)}
    code = job_code("index_classes.py")
    return _job(
        f"data/{name}/class_index.npz",
        "class index",
        {"split": "train"},
        code,
        inputs,
        (index,),
        record_beside(index),
    )


def _dataset(name: str, results: Path) -> Read:
    file = f"data/{name}/dataset.json"
    return Read(results / file, file)


def _index(name: str, results: Path) -> Read:
    file = f"data/{name}/class_index.npz"
    return Read(results / file, file)


def _split(plan: Plan, split: Split, results: Path) -> Job:
    inputs = {"class index": _index(split.dataset, results)}
    try:
        image_list = image_list_file(plan, split, results)
    except ImageListError:  # the rule tells
        image_list = None
    if image_list is not None:
        inputs["image list"] = Read(image_list)
    file = results / split.file
    return _job(split.file, "split", split.spec, job_code("split_steps.py"), inputs, (file,), record_beside(file))


def _memory(memory: MemoryJob, results: Path) -> Job:
    inputs = {"class index": _index(memory.dataset, results), "split": _file(memory.split.file, results)}
    if memory.previous is not None:
        inputs["previous memory"] = _file(memory.previous.file, results)
    file = results / memory.file
    return _job(memory.file, "memory", memory.spec, job_code("select_memory.py"), inputs, (file,), record_beside(file))


def _training(training: Training, results: Path) -> Job:
    folder = results / training.directory
    outputs = folder / "train.csv", folder / "checkpoint.pt", folder / "train.json"
    code = training_code(training.spec)
    if training.imported is not None:
        read = {"imported file": Read(training.imported)}
        return _job(training.directory, "training", training.spec, code, read, outputs, outputs[-1])
    inputs = {"dataset": _dataset(training.dataset, results), "split": _file(training.split.file, results)}
    if training.previous is not None:
        inputs["previous checkpoint"] = Read(results / training.previous.checkpoint, training.previous.directory)
    if training.memory is not None:
        inputs["memory"] = _file(training.memory.file, results)
    with suppress(ValueError):  # the rule tells what is wrong with an entry that cannot be followed
        if training.weights is not None:
            inputs["initial weights"] = Read(training.weights)
    return _job(training.directory, "training", training.spec, code, inputs, outputs, outputs[-1])


def _evaluation(evaluation: Evaluation, results: Path) -> Job:
    training, folder = evaluation.training, results / evaluation.directory
    inputs = {
        "dataset": _dataset(training.dataset, results),
        "checkpoint": Read(results / training.checkpoint, training.directory),
    }
    outputs = folder / "predictions.npz", folder / "counts.npz", folder / "evaluation.json"
    code = evaluation_code(evaluation.spec)
    return _job(evaluation.directory, "evaluation", evaluation.spec, code, inputs, outputs, outputs[-1])


def _reports(plan: Plan, results: Path) -> Iterator[Job]:
    folder = results / "tables"
    tables = tuple(folder / name for name in TABLES)
    code = job_code("make_tables.py")
    inputs = table_inputs(plan, results)
    record = record_beside(folder / "tables")
    yield _job("tables", "tables", tables_spec(plan), code, inputs, tables, record, final=True)
    yield _significance(plan, results)
    if plan.config.ranked_against:
        yield _agreement(plan, results)
    for comparison in plan.comparisons:
        yield _figures(comparison, results)
    for sweep in plan.sweeps:
        yield _sweep(sweep, results)
    for (comparison_name, _), run in galleries(plan).items():
        yield _gallery(comparison_name, run, results)


def table_inputs(plan: Plan, results: Path) -> dict[str, Read]:
    """What tables are made from, by name."""
    found = {"published numbers": Read(PUBLISHED)}
    for directory in plan.trainings:
        found[f"{directory}/train.json"] = Read(results / directory / "train.json", directory)
    for directory in plan.evaluations:
        for name in ("evaluation.json", "counts.npz"):
            found[f"{directory}/{name}"] = Read(results / directory / name, directory)
    return found


def significance_inputs(plan: Plan, results: Path) -> dict[str, Read]:
    """What methods are compared from, by name: the evaluations after the last step."""
    found = {}
    for run in plan.runs:
        for evaluations in run.evaluations.values():
            directory = evaluations[-1].directory
            for name in ("evaluation.json", "counts.npz"):
                found[f"{directory}/{name}"] = Read(results / directory / name, directory)
    return found


def _significance(plan: Plan, results: Path) -> Job:
    outputs = tuple(results / f"{SIGNIFICANCE}.{suffix}" for suffix in ("csv", "md", "html"))
    spec = {"runs": [list(run.key) for run in plan.runs]}
    inputs, code = significance_inputs(plan, results), job_code("compare_methods.py")
    record = record_beside(results / SIGNIFICANCE)
    return _job(SIGNIFICANCE, "significance", spec, code, inputs, outputs, record, final=True)


def agreement_inputs(plan: Plan, results: Path) -> dict[str, Read]:
    """What ranks are compared from, by name: evaluations after the last step of the runs on the datasets that are ranked."""
    found = {"published numbers": Read(PUBLISHED)}
    for run in plan.runs:
        if run.dataset in plan.config.ranked_against:
            directory = next(iter(run.evaluations.values()))[-1].directory
            for name in ("evaluation.json", "counts.npz"):
                found[f"{directory}/{name}"] = Read(results / directory / name, directory)
    return found


def _agreement(plan: Plan, results: Path) -> Job:
    folder = results / AGREEMENT
    outputs = folder / "agreement.csv", folder / "agreement.svg"
    spec = {"ranked_against": plan.config.ranked_against, "runs": [list(run.key) for run in plan.runs]}
    inputs, code = agreement_inputs(plan, results), job_code("compare_ranks.py")
    return _job(AGREEMENT, "figures", spec, code, inputs, outputs, record_beside(folder / "agreement"), final=True)


def _figures(comparison: Comparison, results: Path) -> Job:
    folder, code = results / "figures" / comparison.name, job_code("draw_figures.py")
    inputs = {
        "metrics": Read(results / "tables/metrics.csv", "tables"),
        "values per class": Read(results / "tables/per_class.csv", "tables"),
    }
    for drawn in (loss_files(comparison), memory_files(comparison)):
        for title, files in drawn.items():
            for step, (file, job) in enumerate(files):
                inputs[f"{title}, {step}"] = Read(results / file, job)
    outputs = tuple(folder / f"{name}.{suffix}" for name in FIGURES for suffix in FIGURE_FORMATS)
    record = record_beside(folder / "figures")
    name = f"figures/{comparison.name}"
    return _job(name, "figures", comparison.identity, code, inputs, outputs, record, final=True)


def _sweep(sweep: Sweep, results: Path) -> Job:
    table, figure = results / "tables" / sweep.name / "sweep", results / "figures" / sweep.name / "sweep"
    inputs, code = {"metrics": Read(results / "tables/metrics.csv", "tables")}, job_code("summarise_sweep.py")
    outputs = [table.with_suffix(f".{suffix}") for suffix in SWEEP_TABLES]
    outputs += [figure.with_suffix(f".{suffix}") for suffix in FIGURE_FORMATS]
    name, record = f"figures/{sweep.name}", record_beside(table)
    return _job(name, "figures", sweep.spec, code, inputs, tuple(outputs), record, final=True)


def loss_files(comparison: Comparison) -> dict[str, list[tuple[str, str]]]:
    """Tables of loss terms that a figure shows: method → file and job of each step, of the first seed."""
    return {
        f"losses of {run.method}": [(f"{t.directory}/train.csv", t.directory) for t in run.trainings]
        for run in comparison.first_seed
        if run.released is None
    }


def memory_files(comparison: Comparison) -> dict[str, list[tuple[str, str]]]:
    """Exemplar memories that a figure shows: rule → file and job of each step, of the first seed."""
    found: dict[str, list[tuple[str, str]]] = {}
    for run in comparison.first_seed:
        chain = [training.memory for training in run.trainings if training.memory is not None]
        if chain:
            found[f"memory {chain[0].selection}"] = [(memory.file, memory.file) for memory in chain]
    return found


def _gallery(comparison: str, run: Run, results: Path) -> Job:
    name = f"figures/{comparison}/gallery_{run.method}.png"
    inputs = {"dataset": _dataset(run.dataset, results)}
    evaluations = next(iter(run.evaluations.values()))
    for position, evaluation in enumerate(evaluations):
        file = results / evaluation.directory / "predictions.npz"
        inputs[f"predictions {position}"] = Read(file, evaluation.directory)
    picture, code = results / name, job_code("draw_gallery.py")
    return _job(name, "gallery", gallery_spec(run), code, inputs, (picture,), record_beside(picture), final=True)


def _file(file: str, results: Path) -> Read:
    """A file that is called as the job that makes it."""
    return Read(results / file, file)


def _job(
    name: str,
    kind: str,
    spec: Any,
    code: dict[str, str],
    inputs: dict[str, Read],
    outputs: tuple[Path, ...],
    record: Path,
    final: bool = False,
) -> Job:
    """A job with its spec as records give it back."""
    return Job(name, kind, json.loads(canonical_json(spec)), code, inputs, outputs, record, final)
