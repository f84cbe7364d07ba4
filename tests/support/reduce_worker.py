"""What one of several processes does in a test; a module of its own, because processes that are spawned import it by name."""

from __future__ import annotations

import torch
from torch import distributed

from model.training.processes import reduce_over_processes

REDUCTIONS = ("sum", "mean", "max", "min")


def reduce_in_one_of_two(rank: int, store: str, found: str) -> None:
    """Reduce 1 and 2 over two processes; what each one got is saved as ``found<rank>``."""
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = torch.tensor([rank + 1.0])
    combined = {reduction: reduce_over_processes(own, reduction).item() for reduction in REDUCTIONS}
    torch.save((combined, own), f"{found}{rank}")
    distributed.destroy_process_group()
