"""What the processes of one training share."""

from __future__ import annotations

from torch import Tensor, distributed

from model.methods.base import Reduction

_OPERATIONS = {
    "sum": distributed.ReduceOp.SUM,
    "mean": distributed.ReduceOp.SUM,
    "max": distributed.ReduceOp.MAX,
    "min": distributed.ReduceOp.MIN,
}


def reduce_over_processes(tensor: Tensor, reduction: Reduction) -> Tensor:
    """Combine a tensor that every process holds for its own batches; all of them get the result.

    Args:
        tensor: of equal shape and type in every process; left unchanged.
        reduction: sum, mean, max or min.

    Returns:
        The tensor itself where the training has a single process.
    """
    if not (distributed.is_available() and distributed.is_initialized()) or distributed.get_world_size() == 1:
        return tensor
    combined = tensor.clone()
    distributed.all_reduce(combined, _OPERATIONS[reduction])
    return combined / distributed.get_world_size() if reduction == "mean" else combined
