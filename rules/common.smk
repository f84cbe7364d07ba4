"""Names and input functions; what depends on what is decided in model/workflow/plan.py."""

import json
import os
import re
import shlex
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))

from model.workflow import gpu_assignment
from model.common.command_line import prefer_checkout
from model.common.environment import not_set
from model.common.process_numbers import check_shares
from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.config.yaml_files import read_yaml
from model.data.sources import registry as sources
from model.networks.initial_weights import check_content
from model.networks.weights_entry import to_fetch, weights_file
from model.splits.image_lists import ImageListError
from model.workflow.long_arguments import is_long, long_argument_file
from model.workflow.plan import Plan
from model.workflow.several_nodes import share
from model.workflow.plan_jobs import gallery_spec, image_list_file, preparation_spec, raw_states
from model.common.fingerprints import canonical_json

PROJECT = Path(str(workflow.basedir))

try:
    for file in workflow.configfiles:  # Snakemake has read them already, but not noticed keys that stand twice
        read_yaml(Path(file))
    PLAN = Plan(
        parse_config(
            config,
            source=", ".join(map(str, workflow.configfiles)) or "configuration",
            recipes=PROJECT / "config" / "recipes",
        )
    )
except ConfigError as error:
    raise WorkflowError(str(error)) from None

prefer_checkout(PROJECT)
RESULTS = Path(PLAN.config.results)
# Quoted for a shell command, wherever the project is.
PYTHON = shlex.quote(sys.executable)
SCRIPTS = shlex.quote(str(PROJECT / "workflow_scripts"))


wildcard_constraints:
    dataset="|".join(map(re.escape, [*PLAN.datasets, *PLAN.parts])),
    seed=r"\d+",
    step=r"\d+",
    variant="[^/]+",


def one_of(names):
    """A constraint that admits exactly these names, or nothing at all."""
    return "|".join(sorted(names)) or "(?!)"


def argument(text):
    """A text as an argument of a command; a long one stands in a file, since commands may not be longer than 128 kB."""
    return f"@{long_argument_file(RESULTS, text)}" if is_long(text) else text


def prepared(dataset):
    return RESULTS / "data" / dataset / "dataset.json"


def archive_markers(dataset):
    """Completion markers of the official archives that a dataset asks for."""
    entry = PLAN.dataset(dataset)
    try:
        return [str(marker) for marker in sources.archive_markers(entry.kind, entry.options, prepared(dataset).parent)]
    except ValueError as error:
        raise WorkflowError(f"dataset '{dataset}': {error}") from None


# (root, archive) of each.
ARCHIVES = sorted(
    {tuple(marker[: -len(".json")].rsplit("/archives/", 1)) for d in PLAN.datasets for marker in archive_markers(d)}
)


def gpus_per_training():
    """One where there is a GPU to be had, none on a machine without: resources never invalidate a result."""
    if gpu_assignment.POOL in os.environ:
        return int(bool(gpu_assignment.gpu_pool(os.environ)))

    if not gpu_assignment.may_be_there():
        return 0

    import torch

    return int(torch.cuda.is_available())


GPUS_PER_TRAINING = gpus_per_training()


def process_starter(wildcards, resources):
    """What starts a training in several processes: one for each GPU, or as many as `processes` says, on so many `nodes`."""
    nodes = resources.get("nodes", 1)
    count = resources.processes or max(nodes, resources.gpu)
    training = base_training(wildcards) if "base" in wildcards.keys() else step_training(wildcards)
    recipe = training.spec["recipe"]
    try:
        share(count, nodes)
        check_shares(recipe["batch_size"], recipe.get("accumulate", 1), count)
    except ValueError as error:
        raise WorkflowError(f"{training.directory}: {error}") from None
    several = f"--nodes {nodes} " if nodes > 1 else ""
    return "" if count == 1 else f"{PYTHON} {SCRIPTS}/start_processes.py {several}{count} "


def smaller_passes(wildcards, resources):
    """Forward passes of fewer images, where a batch does not fit: without effect on the result."""
    return f" --micro-batch {resources.micro_batch}" if resources.micro_batch else ""


@cache
def raw_state(dataset):
    """How raw data stand to what was prepared from them."""
    state = raw_states(PLAN, RESULTS, [dataset])[dataset]
    if state.changes:
        print(f"dataset '{dataset}' is prepared again: {state.sentence}", file=sys.stderr)
    if state.note:
        print(f"note: dataset '{dataset}': {state.note}", file=sys.stderr)
    return state


class NotPlanned(LookupError):
    """A target that looks like one of Segue's, but is none of this configuration."""


def planned(jobs, name):
    """A job of the plan; where there is none of that name, `known` says so."""
    if name not in jobs:
        raise NotPlanned(f"{RESULTS / name}: not part of this configuration; `make plan` lists what is")
    return jobs[name]


def split_job(wildcards):
    return planned(PLAN.splits, f"splits/{wildcards.dataset}/{wildcards.group}/{wildcards.split}.json")


def split_list(wildcards):
    lists = PLAN.dataset(wildcards.dataset).lists
    if lists is not None and (problem := not_set(lists.folder)):
        return [f"datasets.{wildcards.dataset}.lists.folder: {problem}"]
    try:
        file = image_list_file(PLAN, split_job(wildcards), RESULTS)
        return [] if file is None else [file]
    except ImageListError as error:
        return [f"datasets.{wildcards.dataset}.lists: {error}"]


def memory_job(wildcards):
    chosen = f"memory/{wildcards.dataset}/{wildcards.chain}/{wildcards.rule}"
    return planned(PLAN.memories, f"{chosen}/seed{wildcards.seed}/step{wildcards.step}.json")


def previous_memory(wildcards):
    previous = memory_job(wildcards).previous
    return [] if previous is None else [RESULTS / previous.file]


def base_training(wildcards):
    return planned(PLAN.trainings, f"base/{wildcards.dataset}/{wildcards.base}/seed{wildcards.seed}")


def imported_training(wildcards):
    return planned(PLAN.trainings, f"imported/{wildcards.dataset}/{wildcards.imported}/seed{wildcards.seed}")


def imported_file(wildcards):
    """The file, or a message in the place of its name: Snakemake names files that are missing without a traceback."""
    file = imported_training(wildcards).imported
    return (
        file
        if file.is_file()
        else f"{file}: 'file' of base_checkpoint or released does not exist; put it there, or correct the path"
    )


def initial_weights(wildcards):
    """Snakemake shows errors of input functions with a traceback, but names of missing files without: so the name is the message."""
    network = base_training(wildcards).spec["recipe"]["network"]
    if "weights" not in network:
        return []
    return [weights_input(canonical_json(network))]


@cache
def weights_input(network):
    """The file of initial weights, or what is wrong with it, found before anything trains."""
    network = json.loads(network)
    try:
        file = weights_file(network["weights"])
        if str(file) not in FETCHED_WEIGHTS:
            check_content(network)
        return file
    except ValueError as error:
        return str(error)


# Files of weights that are published at an address and are not there yet.
FETCHED_WEIGHTS = {}
for name in sorted({run.recipe for run in PLAN.runs}):
    entry = PLAN.recipes[name].network.get("weights")
    try:
        if entry is not None and (file := to_fetch(entry)) is not None:
            FETCHED_WEIGHTS[str(file)] = entry
    except ValueError:
        pass  # the rule that needs the file tells what is wrong with the entry


def step_training(wildcards):
    run = f"{wildcards.dataset}/{wildcards.comparison}/{wildcards.recipe}/{wildcards.method}"
    return planned(PLAN.trainings, f"runs/{run}/seed{wildcards.seed}/step{wildcards.step}")


def step_memory(wildcards):
    memory = step_training(wildcards).memory
    return [] if memory is None else [RESULTS / memory.file]


def evaluation_job(wildcards):
    return planned(PLAN.evaluations, f"{wildcards.training}/evaluation/{wildcards.variant}")


def gallery_run(wildcards):
    galleries = {f"figures/{comparison}/gallery_{method}.png": run for (comparison, method), run in GALLERIES.items()}
    return planned(galleries, f"figures/{wildcards.comparison}/gallery_{wildcards.method}.png")


def gallery_predictions(wildcards):
    run = gallery_run(wildcards)
    first = next(iter(run.evaluations.values()))
    return [RESULTS / evaluation.directory / "predictions.npz" for evaluation in first]


def files_of(found):
    """Title → paths, of :func:`loss_files` or :func:`memory_files`."""
    return {title: [str(RESULTS / file) for file, _ in files] for title, files in found.items()}


def drawn(find):
    """Input function: all files of a comparison that ``find`` names."""
    return lambda wildcards: [
        file for files in files_of(find(COMPARISONS[wildcards.comparison])).values() for file in files
    ]
