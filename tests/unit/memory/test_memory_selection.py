from typing import Any

import numpy as np
import pytest

from model.data.prepared.class_index import ClassIndex
from model.memory.selection import SELECTIONS, ReplayError, make_memory
from model.scenario import Scenario
from model.splits.selection import make_split

SCENARIO = Scenario.from_name("4-2", range(8))


@pytest.fixture
def index() -> ClassIndex:
    generator = np.random.default_rng(4)
    counts = generator.integers(1, 5, (80, 8)) * (generator.random((80, 8)) < 0.35)
    names = tuple(f"image{row:03d}" for row in generator.permutation(80))
    return ClassIndex("toy", "train", names, tuple(range(8)), pixels=100 * counts, segments=counts, instances=counts)


def memories(index: ClassIndex, selection: str, task: str, size: int = 12, seed: int = 0) -> list[dict[str, Any]]:
    memory, result = None, []
    for step in range(len(SCENARIO)):
        split = make_split(index, SCENARIO.step(step), task, "overlapped")
        memory = make_memory(memory, split, index, selection=selection, size=size, seed=seed)
        result.append(memory)
    return result


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("task", ["semantic", "panoptic", "instance"])
def test_exemplars_list_only_classes_that_were_labelled_when_they_were_available(
    index: ClassIndex, selection: str, task: str
) -> None:
    counts = index.counts(task)
    for step, memory in enumerate(memories(index, selection, task)):
        assert memory["step"] == step + 1
        assert memory["classes"] == list(SCENARIO.step(step).seen)
        assert len(memory["images"]) == 12 == len({image["id"] for image in memory["images"]})
        total = np.zeros(8, dtype=int)
        for image in memory["images"]:
            row = index.rows([image["id"]])[0]
            for category, number in image["classes"].items():
                assert counts[row, int(category)] == number > 0
                assert int(category) in memory["classes"]
                total[int(category)] += number
        assert memory["counts"] == {str(c): int(n) for c, n in enumerate(total) if n}
        assert memory["training_counts"] == {str(c): int(counts[:, c].sum()) for c in memory["classes"]}


@pytest.mark.parametrize("selection", ["class-proportional", "random"])
def test_the_quota_of_the_previous_memory_is_kept(index: ClassIndex, selection: str) -> None:
    first, second, third = memories(index, selection, "semantic")
    kept = [image for image in second["order"] if image in first["order"]]
    assert kept == second["order"][:8]  # 12 · 4/6
    assert len([image for image in third["order"] if image in second["order"]]) == 9  # 12 · 6/8


def test_an_exemplar_met_again_gets_the_new_labels_too(index: ClassIndex) -> None:
    first, second, _ = memories(index, "class-proportional", "panoptic")
    before = {image["id"]: image["classes"] for image in first["images"]}
    after = {image["id"]: image["classes"] for image in second["images"]}
    again = set(make_split(index, SCENARIO.step(1), "panoptic", "overlapped")["images"])
    met = [name for name in after if name in before and name in again]
    assert met
    for name in met:
        assert before[name].items() < after[name].items()
    for name in set(after) & set(before) - again:
        assert before[name] == after[name]


def test_sequential_counts_no_class_twice(index: ClassIndex) -> None:
    memory, counts = None, index.counts("semantic")
    for step in range(len(SCENARIO)):
        split = make_split(index, SCENARIO.step(step), "semantic", "sequential")
        memory = make_memory(memory, split, index, selection="class-proportional", size=6, seed=0)
        rows = index.rows(split["images"])
        for category in split["current"]:
            assert memory["training_counts"][str(category)] == counts[rows, category].sum()


@pytest.mark.parametrize(
    ("selection", "depends"), [("class-proportional", False), ("class-balanced", True), ("random", True)]
)
def test_dependence_on_the_seed(index: ClassIndex, selection: str, depends: bool) -> None:
    orders = {tuple(memories(index, selection, "semantic", seed=seed)[0]["order"]) for seed in (0, 0, 1)}
    assert len(orders) == (2 if depends else 1)


def test_a_small_step_gives_a_small_memory(index: ClassIndex) -> None:
    assert len(memories(index, "class-proportional", "semantic", size=500)[0]["images"]) == len(
        make_split(index, SCENARIO.step(0), "semantic", "overlapped")["images"]
    )


def test_mixed_up_files_are_named(index: ClassIndex) -> None:
    split = make_split(index, SCENARIO.step(1), "semantic", "overlapped")
    first = memories(index, "random", "semantic")[0]
    arguments: dict[str, Any] = {"selection": "random", "size": 12, "seed": 0}
    with pytest.raises(ReplayError, match="needs the memory of the step before"):
        make_memory(None, split, index, **arguments)
    with pytest.raises(ReplayError, match="seed = 0, expected 1"):
        make_memory(first, split, index, **{**arguments, "seed": 1})
    with pytest.raises(ReplayError, match="of 'other'"):
        make_memory(first, {**split, "dataset": "other"}, index, **arguments)
    with pytest.raises(ReplayError, match="class-proportional"):
        make_memory(first, split, index, **{**arguments, "selection": "best"})
    with pytest.raises(ReplayError, match="0 exemplars"):
        make_memory(first, split, index, **{**arguments, "size": 0})
