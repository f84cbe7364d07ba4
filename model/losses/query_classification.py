"""Class losses of the queries of a mask-classification network.

Two kinds are published. Mask2Former (Cheng et al., CVPR 2022) weighs "no object" down; CoMFormer (Cermelli et al., CVPR 2023)
weighs every query by how wrong it is (Lin et al., "Focal Loss", ICCV 2017) and all classes alike. In both, the classes of
earlier steps, which are no longer labelled, may be counted as "no object" (``old_classes``): MiB's unbiased classification
(Cermelli et al., CVPR 2020) for queries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from model.losses.precision import at_least_single

ClassLossName = Literal["cross-entropy", "focal"]


@dataclass(frozen=True)
class QueryClassification:
    """The class loss that belongs to a network.

    Attributes:
        name: which of the two.
        alpha: α of the focal loss.
        gamma: γ of the focal loss.
    """

    name: ClassLossName = "cross-entropy"
    alpha: float = 5.0
    gamma: float = 1.0

    def __call__(self, logits: Tensor, labels: Tensor, no_object_weight: float = 0.1, old_classes: int = 0) -> Tensor:
        """The loss of all queries; the focal loss does not read ``no_object_weight``."""
        if self.name == "focal":
            return softmax_focal_loss(logits, labels, self.alpha, self.gamma, old_classes)
        return query_cross_entropy(logits, labels, no_object_weight, old_classes)


def query_log_probabilities(logits: Tensor, old_classes: int = 0) -> Tensor:
    r"""Log-probabilities of classes and "no object", which includes the old classes.

    .. math:: \log q_∅ = \log (p_∅ + \sum_{k < K_{old}} p_k), \quad \log q_k = \log p_k, \quad p = softmax(z)

    Args:
        logits: (B, Q, K + 1), "no object" last.
        old_classes: K_old; 0 gives the plain log-softmax.

    Returns:
        (B, Q, K + 1). The columns of old classes keep their own probability: no target has their label.

    Source: MiB (2020), equation 5; CoMFormer, released code.
    """
    log_p = at_least_single(logits).log_softmax(dim=-1)
    if not old_classes:
        return log_p
    hidden = torch.cat([log_p[..., :old_classes], log_p[..., -1:]], dim=-1).logsumexp(dim=-1, keepdim=True)
    return torch.cat([log_p[..., :-1], hidden], dim=-1)


def query_cross_entropy(logits: Tensor, labels: Tensor, no_object_weight: float = 0.1, old_classes: int = 0) -> Tensor:
    r"""Cross-entropy over all queries, "no object" counting less.

    .. math:: L = \sum_q w_{y_q} · (-\log q_{q, y_q}) / \sum_q w_{y_q}

    Args:
        logits: (B, Q, K + 1), "no object" last.
        labels: (B, Q) int64, K for queries that match nothing.
        no_object_weight: w of "no object"; classes have 1.
        old_classes: counted as "no object", see :func:`query_log_probabilities`.

    Returns:
        Scalar.
    """
    log_q = query_log_probabilities(logits, old_classes)
    weights = log_q.new_ones(log_q.shape[-1])
    weights[-1] = no_object_weight
    return F.nll_loss(log_q.flatten(0, 1), labels.flatten(), weights)


def softmax_focal_loss(
    logits: Tensor,
    labels: Tensor,
    alpha: float = 5.0,
    gamma: float = 1.0,
    old_classes: int = 0,
    reduction: Literal["mean", "weighted-mean"] = "mean",
) -> Tensor:
    r"""Cross-entropy of all queries, each weighted by how improbable its label is.

    .. math:: L = mean_{b,q} \; α · (1 - q_{y})^γ · (-\log q_{y})

    Args:
        logits: (B, Q, K + 1), "no object" last.
        labels: (B, Q) int64, K for queries that match nothing.
        alpha: α.
        gamma: γ.
        old_classes: counted as "no object", see :func:`query_log_probabilities`.
        reduction: ``weighted-mean`` divides the sum by that of the weights :math:`(1 - q_y)^γ`.

    Returns:
        Scalar.

    Source: CoMFormer, released code. α and γ are those of its configurations; the class there has 10 and 2.
    """
    log_q = query_log_probabilities(logits, old_classes).gather(-1, labels[..., None]).squeeze(-1)  # B, Q
    weights = (1 - log_q.exp()).pow(gamma)
    losses = -alpha * weights * log_q
    return losses.mean() if reduction == "mean" else losses.sum() / weights.sum()
