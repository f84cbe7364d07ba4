"""Tables of scenarios: the classes that each step learns, and its number of training images in each setting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from model.data.prepared.class_index import ClassIndex
from model.data.prepared.dataset import Category
from model.reporting.escaping import markdown_text
from model.scenario import Scenario
from model.splits.image_lists import PublishedLists
from model.splits.selection import select_images, validation_images

RULES = ("overlapped", "disjoint")
"""Settings that are counted; ``sequential`` has the images of ``disjoint``."""
MAX_NAMES = 20
"""Steps with more classes are described by their labels only."""


def ranges(numbers: Sequence[int]) -> str:
    """Ascending numbers with runs joined: ``1–4, 7, 9–10``."""
    ordered = sorted(numbers)
    starts = [0, *(place + 1 for place, (a, b) in enumerate(pairwise(ordered)) if b != a + 1)]
    ends = [*(start - 1 for start in starts[1:]), len(ordered) - 1]
    parts = [(ordered[start], ordered[end]) for start, end in zip(starts, ends, strict=True)]
    return ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in parts)


def counts(index: ClassIndex, scenario: Scenario, task: str) -> dict[str, tuple[int, ...]]:
    """Number of training images of every step, by rule.

    Raises:
        SplitError: if a step has none.
    """
    steps = [scenario.step(t) for t in range(len(scenario))]
    return {rule: tuple(len(select_images(index, step, task, rule)) for step in steps) for rule in RULES}


def validation_counts(index: ClassIndex, scenario: Scenario, task: str) -> tuple[int, ...]:
    """Number of validation images with a class learnt so far, after every step."""
    return tuple(len(validation_images(index, scenario.step(t), task, "seen")) for t in range(len(scenario)))


def partition_counts(lists: PublishedLists) -> tuple[int, ...]:
    """Number of training images of every step of a published partition."""
    return tuple(step.images or 0 for step in lists.steps)


def step_table(
    scenario: Scenario, categories: Sequence[Category], columns: Mapping[str, Sequence[int]], first_label: int = 0
) -> str:
    """A Markdown table with one row per step.

    Args:
        scenario: the scenario to describe.
        categories: the class table.
        columns: title → number of images of every step; may be empty.
        first_label: added to category ids to get the labels of the raw label maps.
    """
    names = {category.id: category.name for category in categories}
    lines = [
        "| step | " + "".join(f"{title} | " for title in columns) + "number | labels | classes |",
        "|---|" + "---|" * (len(columns) + 3),
    ]
    for number, classes in enumerate(scenario.increments):
        images = "".join(f"{column[number]:,} | " for column in columns.values())
        spoken = ", ".join(markdown_text(names[c]) for c in classes) if len(classes) <= MAX_NAMES else "…"
        labels = ranges([category + first_label for category in classes])
        lines.append(f"| {number} | {images}{len(classes)} | {labels} | {spoken} |")
    return "\n".join(lines)
