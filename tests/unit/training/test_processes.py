"""Reducing over the processes of a training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from model.training.processes import reduce_over_processes

VALUES = {"sum": 3.0, "mean": 1.5, "max": 2.0, "min": 1.0}


def test_one_process_keeps_its_own() -> None:
    tensor = torch.tensor([1.0, 2.0])
    assert all(reduce_over_processes(tensor, reduction) is tensor for reduction in VALUES)


def worker(rank: int, store: str, found: str) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = torch.tensor([rank + 1.0])
    combined = {reduction: reduce_over_processes(own, reduction).item() for reduction in VALUES}
    torch.save((combined, own), f"{found}{rank}")
    distributed.destroy_process_group()


def test_all_processes_get_the_same_and_lose_nothing(tmp_path: Path) -> None:
    multiprocessing.spawn(worker, (str(tmp_path / "store"), str(tmp_path / "found")), nprocs=2)
    for rank in range(2):
        combined, own = torch.load(tmp_path / f"found{rank}", weights_only=True)
        assert combined == pytest.approx(VALUES)
        assert own.item() == rank + 1
