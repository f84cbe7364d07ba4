"""Published class orders, as data: ``class_orders_<dataset>.csv`` next to this file.

A row is one order of all classes, or of all things if its task is ``instance``, in the ids of the raw label maps, with the place
it was read from. Three keys lead to it:

    name       ``comformer-b``: unambiguous, used as ``100-10.comformer-b``
    letter     ``b``: what the papers of a task call it, used as ``100-10b``; two lines of work give one letter two meanings
    scenario   where a letter means something else in one scenario only: ``19-1b`` of PASCAL VOC
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

TASKS = ("semantic", "panoptic")
"""Tasks on all classes of a table."""

TASK_ON_THINGS = "instance"
"""Its orders are of things alone, and hold for no other task."""

FIRST_LABEL = {"ade20k": 1}
"""Raw label of the first category by kind of data, where ids count from 0 and labels do not."""


class ClassOrderError(ValueError):
    """A table of orders that does not exist or holds no orders; the message names the file."""


@cache
def _rows(dataset: str) -> tuple[tuple[str, str, str, tuple[str, ...], tuple[int, ...]], ...]:
    file = Path(__file__).parent / f"class_orders_{dataset}.csv"
    if not file.is_file():
        raise ClassOrderError(f"{file} does not exist: no class orders of '{dataset}' are known")
    with file.open(newline="", encoding="utf-8") as stream:
        return tuple(
            (
                row["name"],
                row["letter"],
                row["scenario"],
                tuple(row["tasks"].split()),
                tuple(map(int, row["labels"].split())),
            )
            for row in csv.DictReader(stream)
        )


def published_orders(dataset: str, task: str, first_label: int = 0) -> Mapping[str, Sequence[int]]:
    """Class orders by name, by letter, and by scenario with letter; the most special key wins in a scenario's name.

    Args:
        dataset: whose table, e.g. ``voc``.
        task: letters differ between tasks, names do not.
        first_label: is subtracted from the labels of the table, where category ids count from 0 and labels do not.

    Raises:
        ClassOrderError: if there is no table.
    """
    orders: dict[str, Sequence[int]] = {}
    for name, letter, scenario, tasks, labels in _rows(dataset):
        if (task == TASK_ON_THINGS) != (TASK_ON_THINGS in tasks):
            continue
        order = tuple(label - first_label for label in labels)
        orders[name] = order
        if letter and task in tasks:
            orders[f"{scenario}{letter}"] = order
    return orders
