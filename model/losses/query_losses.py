"""Losses of BalConpas on the queries of a mask-classification network.

Chen et al., "Strike a Balance in Continual Panoptic Segmentation", ECCV 2024; numbers as in the released code.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from model.losses.precision import at_least_single


def balanced_query_cross_entropy(
    logits: Tensor, labels: Tensor, replayed: Tensor, no_object_weight: float = 0.1
) -> Tensor:
    r"""Class loss that does not teach "no object" on exemplars, where unlabelled objects abound.

    .. math:: L = \frac{\sum_{matched} ℓ + w ρ \sum_{current, unmatched} ℓ}{w · B Q + (1 - w) · M}, \quad
              ρ = \frac{U_{replayed} + U_{current}}{U_{current}}

    ℓ is the cross-entropy of a query, M the number of matched queries, U the number of unmatched ones in exemplars and in
    the other images. ρ keeps the weight of "no object" in the batch what it would be without exemplars.

    Args:
        logits: (B, Q, K + 1), "no object" last.
        labels: (B, Q) int64, K for queries that match nothing.
        replayed: (B,) bool, True for exemplars.
        no_object_weight: w.

    Returns:
        Scalar; without exemplars that of :func:`~model.losses.query_classification.query_cross_entropy`.

    Source: balanced anti-misguidance loss, section 3.4; the constants of the denominator follow the released code.
    """
    no_object = logits.shape[-1] - 1
    losses = F.cross_entropy(at_least_single(logits).transpose(1, 2), labels, reduction="none")  # B, Q
    unmatched = labels == no_object
    counted = unmatched & ~replayed[:, None]
    no_objects, matches = unmatched.sum().to(losses.dtype), (~unmatched).sum().to(losses.dtype)
    scale = no_objects / counted.sum().clamp(min=1)
    matched = losses.masked_fill(unmatched, 0.0).sum()
    rest = losses.masked_fill(~counted, 0.0).sum()
    mass = no_object_weight * labels.numel() + (1 - no_object_weight) * matches
    return (matched + no_object_weight * scale * rest) / mass


def query_distillation(queries: Tensor, old_queries: Tensor, selected: Tensor) -> Tensor:
    """Mean squared difference to the old model's queries, for the queries of past classes.

    Args:
        queries: (B, Q, C).
        old_queries: (B, Q, C) of the old model, same query at the same place; no gradient flows into it.
        selected: (B, Q) bool.

    Returns:
        Scalar, the mean over selected queries and channels; zero if none is selected.

    Source: past-class backtrace distillation, section 3.2. The released code gives NaN where no query is selected.
    """
    difference = (queries - old_queries.detach()).masked_fill(~selected[..., None], 0.0)
    return difference.square().sum() / (selected.sum() * queries.shape[-1]).clamp(min=1)
