"""The exemplar memory as a small file: from the memory and the data of one step to the memory of the next.

The memory of step t holds exemplars of steps 0…t−1. An exemplar lists only classes that were labelled while its image was
available; an image that is met again in a later step is enriched with that step's labels (BalConpas, released code).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from model.data.prepared.class_index import ClassIndex
from model.memory.class_balanced import select_class_balanced
from model.memory.class_proportional import select_class_proportional
from model.memory.random import select_random


class ReplayError(ValueError):
    """A memory that cannot be made from the given files; the message names the key and the remedy."""


@dataclass(frozen=True)
class Pool:
    """Candidates for the next memory.

    Attributes:
        image_ids: N candidates: the step's images in dataset order, then earlier exemplars that the step does not have.
        counts: (N, C) what each holds, labels of earlier steps included.
        training_counts: (C,) what the training data of all steps hold, each class counted in its own step.
        earlier: rows that are in the previous memory.
        new: all other rows.
        quota: how many of the previous memory stay, for rules that keep a quota: ⌊size · past / (past + current)⌋.
    """

    image_ids: tuple[str, ...]
    counts: np.ndarray
    training_counts: np.ndarray
    earlier: tuple[int, ...]
    new: tuple[int, ...]
    quota: int


def class_proportional(pool: Pool, size: int, generator: np.random.Generator) -> list[int]:
    """BalConpas: re-select the quota from the previous memory, then continue with new images. Nothing is random."""
    kept = select_class_proportional(pool.counts[list(pool.earlier)], pool.training_counts, pool.quota)
    rows = [pool.earlier[row] for row in kept]
    held = pool.counts[rows].sum(axis=0)
    added = select_class_proportional(pool.counts[list(pool.new)], pool.training_counts, size - len(rows), held)
    return rows + [pool.new[row] for row in added]


def class_balanced(pool: Pool, size: int, generator: np.random.Generator) -> list[int]:
    """SSUL-M: one round robin over all candidates, earlier and new."""
    return select_class_balanced(pool.counts, size, generator)


def random(pool: Pool, size: int, generator: np.random.Generator) -> list[int]:
    """Uniform within the quota of the previous memory and within the new images."""
    rows = [pool.earlier[row] for row in select_random(len(pool.earlier), pool.quota, generator)]
    return rows + [pool.new[row] for row in select_random(len(pool.new), size - len(rows), generator)]


SELECTIONS: Mapping[str, Callable[[Pool, int, np.random.Generator], list[int]]] = {
    "class-proportional": class_proportional,
    "class-balanced": class_balanced,
    "random": random,
}


def make_memory(
    previous: Mapping[str, Any] | None,
    split: Mapping[str, Any],
    index: ClassIndex,
    *,
    selection: str,
    size: int,
    seed: int,
) -> dict[str, Any]:
    """The memory that step t + 1 trains with, from what step t had.

    Args:
        previous: memory of step t; None at the base step.
        split: split file of step t.
        index: counts of the training split.
        selection: a key of ``SELECTIONS``.
        size: number of exemplars; the memory is smaller if there are fewer candidates.
        seed: of the experiment; class-proportional selection does not depend on it.

    Returns:
        Content of the memory file: per exemplar the counts of its labelled classes, per class the counts in the memory
        (``counts``) and in all training data so far (``training_counts``). Keys of the counts are category ids as text.

    Raises:
        ReplayError: if files of different experiments are put together, or the size or selection makes no sense.
    """
    if selection not in SELECTIONS:
        raise ReplayError(f"selection '{selection}' does not exist (known: {', '.join(SELECTIONS)})")
    if size < 1:
        raise ReplayError(f"a memory of {size} exemplars makes no sense; use at least 1, or a method without memory")
    _check(previous, split, index, selection, size, seed)
    pool = make_pool(previous, split, index, size)
    order = SELECTIONS[selection](pool, size, np.random.default_rng([seed, int(split["step"])]))
    counts = pool.counts[sorted(order)]
    return {
        "dataset": split["dataset"],
        "task": split["task"],
        "selection": selection,
        "size": size,
        "seed": seed,
        "step": split["step"] + 1,
        "classes": [*split["past"], *split["current"]],
        "images": [{"id": pool.image_ids[row], "classes": _named(index, pool.counts[row])} for row in sorted(order)],
        "order": [pool.image_ids[row] for row in order],
        "counts": _named(index, counts.sum(axis=0)),
        "training_counts": _named(index, pool.training_counts),
    }


def make_pool(previous: Mapping[str, Any] | None, split: Mapping[str, Any], index: ClassIndex, size: int) -> Pool:
    """Put the previous memory and the data of a step together; arguments as in :func:`make_memory`."""
    counts = index.counts(split["task"])
    labelled = np.zeros(len(index.categories), dtype=bool)
    labelled[index.columns(split["visible"])] = True
    current = np.zeros_like(labelled)
    current[index.columns(split["current"])] = True
    step_counts = np.where(labelled, counts[index.rows(split["images"])], 0)
    training_counts = np.where(current, step_counts, 0).sum(axis=0)

    exemplars = {} if previous is None else {image["id"]: image["classes"] for image in previous["images"]}
    row_of = {image_id: row for row, image_id in enumerate(split["images"])}
    image_ids = [*split["images"], *(image_id for image_id in exemplars if image_id not in row_of)]
    table = np.zeros((len(image_ids), len(index.categories)), dtype=np.int64)
    table[: len(step_counts)] = step_counts
    row_of = {image_id: row for row, image_id in enumerate(image_ids)}
    for image_id, classes in exemplars.items():
        row = row_of[image_id]
        columns = index.columns([int(category) for category in classes])
        table[row, columns] = np.maximum(table[row, columns], list(classes.values()))
    if previous is not None:
        past = previous["training_counts"]
        training_counts[index.columns([int(category) for category in past])] += list(past.values())
    past_classes, current_classes = len(split["past"]), len(split["current"])
    earlier = [row_of[image_id] for image_id in exemplars]
    if split["task"] == "semantic":  # the released code reads semantic exemplars in order of their names
        earlier.sort(key=lambda row: image_ids[row])
    new = [row for row in range(len(split["images"])) if image_ids[row] not in exemplars]
    return Pool(
        image_ids=tuple(image_ids),
        counts=table,
        training_counts=training_counts,
        earlier=tuple(earlier),
        new=tuple(new if previous is None else sorted(new, key=lambda row: image_ids[row])),
        quota=size * past_classes // (past_classes + current_classes),
    )


def _named(index: ClassIndex, counts: np.ndarray) -> dict[str, int]:
    return {str(category): int(n) for category, n in zip(index.categories, counts, strict=True) if n}


def _check(
    previous: Mapping[str, Any] | None,
    split: Mapping[str, Any],
    index: ClassIndex,
    selection: str,
    size: int,
    seed: int,
) -> None:
    if split["dataset"] != index.dataset or split["split"] != index.split:
        raise ReplayError(
            f"the split file is of '{split['dataset']}' ({split['split']}), the class index of '{index.dataset}' "
            f"({index.split}): make both from the same dataset"
        )
    if previous is None:
        if split["step"] > 0:
            raise ReplayError(f"step {split['step']} needs the memory of the step before; only the base step has none")
        return
    expected = {
        "dataset": split["dataset"],
        "task": split["task"],
        "selection": selection,
        "size": size,
        "seed": seed,
        "step": split["step"],
        "classes": list(split["past"]),
    }
    for key, value in expected.items():
        if previous[key] != value:
            raise ReplayError(
                f"the previous memory has {key} = {previous[key]}, expected {value}: make all memories again"
            )
