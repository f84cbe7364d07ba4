"""Planning a comparison of 20 methods over every published scenario, all at once and run by run.

The scenarios, settings and recipes are those of ``config/published`` that the methods can work with; the methods are 20 copies of
one of the registry for each experiment, each with a different hyper-parameter, so that only base steps can be shared. The peer
plans every scenario and method separately, as separate configurations would; both must plan the same jobs, or the program fails.
No data are needed, and what is asked of methods is kept from an earlier call.

    python benchmarks/planning.py --json results/planning.json
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from paired import compare, describe_machine, parser, write

from model.config.reading import load_config
from model.config.schema import Config, Experiment, MethodEntry
from model.methods import registry as methods
from model.methods.base import Method
from model.workflow.plan import Plan
from model.workflow.suitable_recipes import suits

PROJECT = Path(__file__).resolve().parents[1]
COPIES = {"per-pixel": ("mib", "distillation_weight"), "mask": ("balconpas", "distillation_weight")}


def published() -> tuple[Config, list[Experiment]]:
    """A configuration with every dataset and recipe, and the experiments that compare fine-tuning with joint training."""
    files = sorted((PROJECT / "config" / "published").glob("*.yaml"))
    configs = [load_config(file, PROJECT / "config" / "recipes") for file in files]
    datasets = {name: entry for config in configs for name, entry in config.datasets.items()}
    with_lists = {n: e for c in configs for n, e in c.datasets.items() if e.lists is not None}
    recipes = {name: recipe for config in configs for name, recipe in config.recipes.items()}
    everything = configs[0].model_copy(update={"datasets": {**datasets, **with_lists}, "recipes": recipes})
    bounds = [e for c in configs for e in c.experiments if any(entry.name == "joint" for entry in e.methods)]
    cells: dict[tuple[str, ...], Experiment] = {}
    for experiment in bounds:
        for scenario in map(str, experiment.scenarios):
            for setting in experiment.settings:
                key = (experiment.dataset, experiment.task, scenario, setting, experiment.recipe)
                cell = experiment.model_copy(update={"scenarios": [scenario], "settings": [setting]})
                known = cells.setdefault(key, cell)
                protocols = list(dict.fromkeys([*known.protocols, *experiment.protocols]))
                cells[key] = known.model_copy(update={"protocols": protocols})
    return everything, list(cells.values())


def method_of(config: Config, experiment: Experiment) -> type[Method[Any, Any]]:
    """The method whose copies are compared."""
    family = config.recipes[experiment.recipe].family
    return methods.resolve(COPIES[family][0], family)


def copies(config: Config, experiment: Experiment, number: int) -> list[MethodEntry]:
    """The given number of variants of one method of the experiment's family."""
    name, field = COPIES[config.recipes[experiment.recipe].family]
    return [
        MethodEntry(name=name, label=f"{name}-{copy:02}", hyper_parameters={field: 1.0 + copy})
        for copy in range(number)
    ]


def separate(comparison: Config) -> Iterator[Config]:
    """The same comparison as one configuration per run."""
    for experiment in comparison.experiments:
        for entry in experiment.methods:
            yield comparison.model_copy(update={"experiments": [experiment.model_copy(update={"methods": [entry]})]})


def run_by_run(comparison: Config) -> tuple[int, dict[str, dict[str, object]]]:
    """Number of runs and the specs of all trainings, from a plan for each run."""
    trainings, runs = dict[str, dict[str, object]](), 0
    for config in separate(comparison):
        alone = Plan(config)
        runs += len(alone.runs)
        trainings |= {directory: training.spec for directory, training in alone.trainings.items()}
    return runs, trainings


def main() -> None:
    """Check that both plan the same jobs, then time them."""
    made = parser(__doc__, rounds=3)
    made.add_argument("--methods", type=int, default=20)
    arguments = made.parse_args()
    describe_machine()
    everything, experiments = published()
    experiments = [
        e.model_copy(update={"methods": copies(everything, e, arguments.methods), "memory": None})
        for e in experiments
        if suits(everything.recipes[e.recipe], method_of(everything, e))
    ]
    comparison = everything.model_copy(update={"experiments": experiments})
    plan = Plan(comparison)
    if run_by_run(comparison) != (len(plan.runs), {d: t.spec for d, t in plan.trainings.items()}):
        sys.exit("the two ways do not plan the same jobs")
    shared = sum(training.shared for training in plan.trainings.values())
    print(
        f"{arguments.methods} methods, {len(experiments)} published scenarios: {len(plan.runs):,} runs, "
        f"{len(plan.trainings):,} trainings ({shared} base steps), {len(plan.evaluations):,} evaluations"
    )
    found = compare(
        f"planning {arguments.methods} methods on {len(experiments)} scenarios",
        lambda: Plan(comparison),
        lambda: run_by_run(comparison),
        peer_name="run by run",
        rounds=arguments.rounds,
        warm_up=0,
    )
    write([found], arguments.json)


if __name__ == "__main__":
    main()
