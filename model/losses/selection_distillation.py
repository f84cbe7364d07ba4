"""Consistent selection loss: the classes at the places that the old model chose.

SimCIS (CVPR 2025), section on consistent selection, as released.
"""

from __future__ import annotations

from torch import Tensor

from model.losses.precision import at_least_single


def selection_distillation(logits: Tensor, old_logits: Tensor, temperature: float = 1.0) -> Tensor:
    r"""Kullback-Leibler divergence from the old model's classes, summed over queries and averaged over images.

    .. math:: L = \frac{1}{B} \sum_{b,q,c} p°_{bqc} (\log p°_{bqc} - \log p_{bqc}), \quad p = softmax(z / T)

    Args:
        logits: (B, Q, K) of the network in training.
        old_logits: (B, Q, K_old) of the old model for the same queries, K_old ≤ K; no gradient flows into it. Columns that it
            does not have are left out before the softmax.
        temperature: T; the result is not multiplied by its square.

    Returns:
        Scalar.
    """
    old = at_least_single(old_logits.detach())
    log_p = (at_least_single(logits)[..., : old.shape[-1]] / temperature).log_softmax(dim=-1)
    log_old = (old / temperature).log_softmax(dim=-1)
    return (log_old.exp() * (log_old - log_p)).sum() / len(logits)
