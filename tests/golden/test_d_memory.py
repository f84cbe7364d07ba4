"""Class-proportional selection against BalConpas, walking through all steps of every recorded scenario."""

from typing import Any

import numpy as np
import pytest
from golden import Case, Recording, cases, load

from model.data.prepared.class_index import ClassIndex
from model.memory.selection import make_memory

TASKS = {"pan": "panoptic", "inst": "instance", "sem": "semantic"}


def image_name(image_id: str | int) -> str:
    """Names of one length, so that numbers sort as numbers."""
    return image_id if isinstance(image_id, str) else f"{image_id:08d}"


def class_index(recording: Recording) -> ClassIndex:
    categories = recording.document["input"]["category_ids"]
    images = recording.document["input"]["images"]
    counts = np.array([[image["segment_categories"].count(c) for c in categories] for image in images])
    names = tuple(image_name(image["id"]) for image in images)
    return ClassIndex("recorded", "train", names, tuple(categories), pixels=counts, segments=counts, instances=counts)


def splits(recording: Recording, index: ClassIndex, task: str) -> list[dict[str, Any]]:
    config = recording.config
    rows = []
    for step in range(config["steps"]):
        known = config["base_classes"] + config["increment"] * (step - 1) if step else 0
        upto = config["base_classes"] + config["increment"] * step
        past, current = list(index.categories[:known]), list(index.categories[known:upto])
        chosen = index.presence(task)[:, known:upto].any(axis=1)
        rows.append(
            {
                "dataset": "recorded",
                "task": task,
                "setting": "overlapped",
                "split": "train",
                "step": step,
                "past": past,
                "current": current,
                "visible": current,
                "images": [name for name, take in zip(index.image_ids, chosen, strict=True) if take],
            }
        )
    return rows


@pytest.mark.parametrize("case", cases("d_memory"))
def test_memories_of_all_steps(case: Case) -> None:
    recording = load(case)
    task = TASKS[recording.config["kind"]]
    index = class_index(recording)
    memory = None
    for split, expected in zip(
        splits(recording, index, task), recording.document["output_per_step_ascending_ties"], strict=True
    ):
        size = recording.config["memory_size"]
        memory = make_memory(memory, split, index, selection="class-proportional", size=size, seed=0)
        assert memory["order"] == [image_name(image) for image in expected["selected_in_order"]]
        assert memory["training_counts"] == {c: n for c, n in expected["global_counts"].items() if n}
        selected = dict(zip(map(str, index.categories), map(int, expected["selected_counts"]), strict=True))
        assert memory["counts"] == {c: n for c, n in selected.items() if n}
        labels = {image["id"]: image["classes"] for image in memory["images"]}
        if "memory_images" in expected:
            assert list(labels) == [image_name(image) for image in expected["memory_images"]]
            for name, segments in expected["memory_segments"].items():
                key = image_name(int(name) if name.isdigit() else name)
                assert labels[key] == {str(c): segments.count(c) for c in sorted(set(segments))}
        else:
            for name, values in expected["memory_label_values"].items():
                assert sorted(map(int, labels[name])) == [value for value in values if value != 255]
