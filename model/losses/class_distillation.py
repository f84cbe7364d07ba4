"""Distillation of the queries' classes: the query of an index is compared with the old model's query of the same index.

Cermelli, Cord & Douillard, "CoMFormer: Continual Learning in Semantic and Panoptic Segmentation", CVPR 2023, released code;
MiB's unbiased distillation (Cermelli et al., CVPR 2020) for queries. Logits are (B, Q, K + 1) with "no object" last, those of
the old model (B, Q, K_old + 1); no gradient flows into the old ones.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from model.losses.mask_activation import MaskActivation
from model.losses.precision import at_least_single

NewClasses = Literal["no-object", "removed", "ignored"]
"""What becomes of the classes that the old model does not know: their probability is added to that of "no object", their logits
are removed before the softmax, or their probability is left out after it."""


def query_divergence(
    logits: Tensor, old_logits: Tensor, new_classes: NewClasses = "no-object", temperature: float = 1.0
) -> Tensor:
    r"""How far each query's classes are from the old model's.

    .. math:: KL_q = \sum_{k ∈ old ∪ ∅} o_{qk} (\log o_{qk} - \log p'_{qk}), \quad o = softmax(T · z^{old})

    Args:
        logits: (B, Q, K + 1).
        old_logits: (B, Q, K_old + 1).
        new_classes: how p' is made from the softmax of the logits.
        temperature: T; as released it multiplies, and the old logits only.

    Returns:
        (B, Q).
    """
    z, old = at_least_single(logits), at_least_single(old_logits.detach())
    known = old.shape[-1] - 1
    if new_classes == "removed":
        log_p = torch.cat([z[..., :known], z[..., -1:]], dim=-1).log_softmax(dim=-1)
    else:
        log_p = z.log_softmax(dim=-1)
        rest = log_p[..., known:].logsumexp(dim=-1, keepdim=True) if new_classes == "no-object" else log_p[..., -1:]
        log_p = torch.cat([log_p[..., :known], rest], dim=-1)
    log_o = (old * temperature).log_softmax(dim=-1)
    return (log_o.exp() * (log_o - log_p)).sum(dim=-1)


def class_distillation(
    logits: Tensor,
    old_logits: Tensor,
    new_classes: NewClasses = "no-object",
    reweighted: bool = True,
    temperature: float = 1.0,
) -> Tensor:
    r"""Mean of :func:`query_divergence`, which may count queries by how sure the old model is that they are an object.

    .. math:: L = \sum_q w_q KL_q / \sum_q w_q, \quad w_q = (1 - o_{q∅})^2

    Args:
        logits, old_logits, new_classes, temperature: of :func:`query_divergence`.
        reweighted: w as above; 1 otherwise.

    Returns:
        Scalar, over all queries of the batch; 0 where the old model is certain that no query is an object.

    Source: CoMFormer (adaptive distillation), released code.
    """
    divergence = query_divergence(logits, old_logits, new_classes, temperature)
    if not reweighted:
        return divergence.mean()
    nothing = (at_least_single(old_logits.detach()) * temperature).softmax(dim=-1)[..., -1]
    weights = (1 - nothing).square()
    return (weights * divergence).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)


def focal_class_distillation(
    logits: Tensor, old_logits: Tensor, new_classes: NewClasses = "removed", alpha: float = 1.0, gamma: float = 2.0
) -> Tensor:
    r"""Mean of :math:`α (1 - e^{-KL_q})^γ KL_q`, with KL of :func:`query_divergence`.

    Source: CoMFormer, released code; no released configuration uses it.
    """
    divergence = query_divergence(logits, old_logits, new_classes)
    return (alpha * (1 - (-divergence).exp()).pow(gamma) * divergence).mean()


def squared_class_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    """Mean over the queries of the squared distance between the probabilities of old classes and "no object".

    Source: CoMFormer, released code (``L2``); no released configuration uses it.
    """
    z, old = at_least_single(logits), at_least_single(old_logits.detach())
    p = torch.cat([z[..., : old.shape[-1] - 1], z[..., -1:]], dim=-1).softmax(dim=-1)
    return (p - old.softmax(dim=-1)).square().sum(dim=-1).mean()


def mask_distillation(masks: Tensor, old_masks: Tensor, activation: MaskActivation) -> Tensor:
    """Divergence of the masks of equal queries from the old model's, mean over queries and pixels.

    Args:
        masks: (B, Q, h, w) mask logits.
        old_masks: the same of the old model.
        activation: ``sigmoid``: binary cross-entropy with the old probabilities; ``softmax``: Kullback-Leibler divergence
            between the shares of a pixel.

    Source: CoMFormer, released code (``MASK_KD``); no released configuration uses it.
    """
    z, old = at_least_single(masks), at_least_single(old_masks.detach())
    if activation == "sigmoid":
        return F.binary_cross_entropy_with_logits(z, old.sigmoid())
    log_old = old.log_softmax(dim=1)
    return (log_old.exp() * (log_old - z.log_softmax(dim=1))).mean()
