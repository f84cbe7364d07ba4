"""A memory that was damaged or edited by hand is named, with the entry and the remedy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from model.common.files import FileError
from model.common.json_files import write_checked
from model.memory.memory_file import read_memory

MEMORY = {
    "dataset": "toy",
    "task": "semantic",
    "selection": "random",
    "size": 2,
    "seed": 0,
    "step": 1,
    "classes": [3, 1],
    "images": [{"id": "a", "classes": {"3": 1}}, {"id": "b", "classes": {"3": 2, "1": 1}}],
    "order": ["b", "a"],
    "counts": {"3": 3, "1": 1},
    "training_counts": {"3": 9, "1": 4},
}


def test_a_memory_is_read_as_it_stands(tmp_path: Path) -> None:
    write_checked(tmp_path / "m.json", MEMORY)
    assert read_memory(tmp_path / "m.json") == MEMORY


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.pop("classes"), "classes: field required"),
        (lambda m: m.update(step="1"), "step: input should be a valid integer, found '1'"),
        (lambda m: m["images"][0].pop("id"), r"images\.0\.id: field required"),
        (lambda m: m["images"][1]["classes"].update({"3": 0}), r"images\.1\.classes\.3: input should be greater"),
        (lambda m: m["images"][1]["classes"].update({"sky": 1}), r"images\.1\.classes\.sky"),
        (lambda m: m["images"].pop(), "'counts' says 1 of class 1, but the images hold 0"),
        (lambda m: m["images"].append(m["images"][0]), "'images' names 'a' twice"),
    ],
)
def test_an_edit_is_noticed(tmp_path: Path, edit: Callable[[dict[str, Any]], None], message: str) -> None:
    memory = json.loads(json.dumps(MEMORY))
    edit(memory)
    write_checked(tmp_path / "m.json", memory)
    with pytest.raises(FileError, match=rf"m\.json: .*{message}.*; delete it to have it made again"):
        read_memory(tmp_path / "m.json")
