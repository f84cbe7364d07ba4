"""Reducing over the processes of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from reduce_worker import reduce_in_one_of_two
from torch import multiprocessing

from model.training.processes import reduce_over_processes

VALUES = {"sum": 3.0, "mean": 1.5, "max": 2.0, "min": 1.0}


def test_one_process_keeps_its_own() -> None:
    tensor = torch.tensor([1.0, 2.0])
    assert all(reduce_over_processes(tensor, reduction) is tensor for reduction in VALUES)


def test_all_processes_get_the_same_and_lose_nothing(tmp_path: Path) -> None:
    multiprocessing.spawn(reduce_in_one_of_two, (str(tmp_path / "store"), str(tmp_path / "found")), nprocs=2)
    for rank in range(2):
        combined, own = torch.load(tmp_path / f"found{rank}", weights_only=True)
        assert combined == pytest.approx(VALUES)
        assert own.item() == rank + 1
