"""A checkpoint comes back from safetensors bit for bit, and damaged files are one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from model.interop.safetensors_files import KEY, SafetensorsError, read_safetensors, write_safetensors
from model.training.checkpoint import Checkpoint, CheckpointError

SHARED = torch.arange(6.0)
STATE = {
    "prototypes": torch.randn(2, 3, generator=torch.Generator().manual_seed(0)),
    "counts": {1: torch.tensor([3, 4]), "late": (1, 2.5, None, "text", True)},
    "list": [torch.zeros(0), [torch.ones((), dtype=torch.bfloat16)], ()],
    "view": SHARED[::2],
    "same": SHARED,
    "infinite": float("inf"),
}


def checkpoint(**changes: Any) -> Checkpoint:
    network = {"a.weight": torch.randn(3, 4).t(), "a.bias": SHARED, "n": torch.tensor(7), "half": torch.ones(2).half()}
    values = {"step": 1, "network_arguments": {"name": "x", "rates": [1, 2]}, "method_state": STATE, "spec": {"a": [1]}}
    return Checkpoint(network, (5, 3, 9), (2, 1), **{**values, **changes})


def assert_same(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert one.dtype == other.dtype and torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    else:
        assert one == other


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path: Path) -> None:
    before = checkpoint()
    write_safetensors(tmp_path / "a.safetensors", before)
    after = read_safetensors(tmp_path / "a.safetensors")
    assert_same(dict(sorted(before.network.items())), dict(sorted(after.network.items())))
    assert_same(before.method_state, after.method_state)
    for name in ("classes", "classes_per_step", "step", "network_arguments", "spec"):
        assert_same(getattr(before, name), getattr(after, name))


def test_equal_checkpoints_give_equal_files(tmp_path: Path) -> None:
    stored = checkpoint()
    for name in "ab":
        write_safetensors(tmp_path / name, stored)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_what_could_not_be_read_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="a set cannot be stored"):
        write_safetensors(tmp_path / "a.safetensors", checkpoint(method_state={"x": {1}}))
    assert not (tmp_path / "a.safetensors").exists()


def test_damaged_and_foreign_files_are_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.safetensors"
    write_safetensors(file, checkpoint())
    content = file.read_bytes()
    damages: dict[str, Any] = {
        "cannot be read as safetensors": lambda: file.write_bytes(content[: len(content) // 2]),
        "cannot be read as safetensors ": lambda: file.write_bytes(b""),
        "not a checkpoint of Segue": lambda: save_file({"a": torch.ones(1)}, file),
        "has format 99": lambda: save_file({"a": torch.ones(1)}, file, {KEY: json.dumps({"format": 99})}),
        "its description is damaged": lambda: save_file({"a": torch.ones(1)}, file, {KEY: '{"format": 1}'}),
        "its description is damaged ": lambda: save_file({"a": torch.ones(1)}, file, {KEY: "no json"}),
        "there is no such file": file.unlink,
    }
    for said, damage in damages.items():
        damage()
        with pytest.raises(SafetensorsError, match=said.strip()) as error:
            read_safetensors(file)
        assert "a.safetensors" in str(error.value) and "\n" not in str(error.value)
