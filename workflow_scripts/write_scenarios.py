"""Write docs/scenarios.md: classes and numbers of images of every step of every scenario in config/published."""

import argparse
from collections.abc import Mapping
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.config.schema import Config
from model.data.prepared.class_index import ClassIndex
from model.data.sources import registry as sources
from model.data.sources.class_orders import FIRST_LABEL
from model.reporting.scenario_tables import counts, partition_counts, step_table, validation_counts
from model.scenario import Scenario
from model.splits.image_lists import published_lists
from model.workflow.plan import Plan

HEAD = """# Scenarios

Classes and numbers of training images of every step of the scenarios in `config/published`;
[protocols.md](protocols.md) explains them. This page is written by `workflow_scripts/write_scenarios.py`.

*overlapped*, *disjoint*: images selected by the rule; `sequential` has those of `disjoint`. *partition*: images of the
published list. *validation*: validation images with a class learnt so far. Labels are those of the raw label maps, which in
ADE20K count from 1. Images are counted on the complete official data, by the label maps; where there is no number, they have
not been counted (panoptic segments, objects, COCO).
"""


def scenarios_of(configs: list[Config]) -> dict[tuple[str, str], dict[str, Scenario]]:
    """Scenarios by dataset and task, in the order of the files."""
    found: dict[tuple[str, str], dict[str, Scenario]] = {}
    for config in configs:
        for planned in Plan(config).runs:
            found.setdefault((planned.dataset, planned.task), {})[planned.scenario.name] = planned.scenario
    return found


def key(name: str) -> tuple[object, ...]:
    """Natural order of scenario names."""
    base, _, rest = name.partition("-")
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    order = rest[len(digits) :]
    number = order.rpartition("-")[2]
    return (bool(order), -int(base), -int(digits), order.rstrip("0123456789"), int(number) if number.isdigit() else 0)


def page(configs: list[Config], indices: Mapping[tuple[str, str], ClassIndex]) -> str:
    """The complete page.

    Args:
        configs: of config/published.
        indices: class index of a dataset's split (``train``, ``val``), where it is at hand.
    """
    parts = [HEAD]
    entries = {name: entry for config in configs for name, entry in config.datasets.items()}
    for (dataset, task), scenarios in sorted(scenarios_of(configs).items()):
        entry = entries[dataset]
        categories = sources.categories(entry.kind, entry.options)
        lists = {one.scenario: one for one in published_lists(entry.kind)} if task == "semantic" else {}
        parts.append(f"\n## {dataset}, {task}\n")
        for name in sorted(scenarios, key=key):
            columns = {}
            if task == "semantic" and (dataset, "train") in indices:
                columns |= counts(indices[dataset, "train"], scenarios[name], task)
                if name in lists:
                    columns["partition"] = partition_counts(lists[name])
                columns["validation"] = validation_counts(indices[dataset, "val"], scenarios[name], task)
            table = step_table(scenarios[name], categories, columns, FIRST_LABEL.get(entry.kind, 0))
            parts.append(f"\n### {name}\n\n{table}\n")
    return "".join(parts)


def main() -> None:
    """Parse the command line and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--published", type=Path, default=Path("config/published"))
    parser.add_argument(
        "--train", nargs="*", default=[], metavar="DATASET=FILE", help="class index of the training images"
    )
    parser.add_argument(
        "--val", nargs="*", default=[], metavar="DATASET=FILE", help="class index of the validation images"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/scenarios.md"))
    arguments = parser.parse_args()
    indices = {}
    for split in ("train", "val"):
        for pair in getattr(arguments, split):
            dataset, _, file = pair.partition("=")
            indices[dataset, split] = ClassIndex.load(Path(file))
    configs = [load_config(file) for file in sorted(arguments.published.glob("*.yaml"))]
    arguments.output.write_text(page(configs, indices), encoding="utf-8")


if __name__ == "__main__":
    run(main)
