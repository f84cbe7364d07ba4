"""How certain binary classifiers are about a pixel, and a loss on uncertainty.

Zhu et al., "Adaptive Prototype Replay for Class Incremental Semantic Segmentation" (Adapter), AAAI 2025.
"""

from __future__ import annotations

from torch import Tensor

SURE = 0.7
"""Score above which a pixel counts as decided, and margin above which it counts as certain."""


def certainty(scores: Tensor) -> Tensor:
    """Largest score minus the second largest; the score itself where there is one class.

    Args:
        scores: (B, N, ...) sigmoids. Gradient flows through the second largest alone.

    Returns:
        (B, ...).

    Source: Adapter (2025), released code.
    """
    if scores.shape[1] == 1:
        return scores[:, 0].detach()
    best, second = scores.topk(2, dim=1).values.unbind(dim=1)
    return best.detach() - second


def undecided(scores: Tensor, labels: Tensor, sure: float = SURE) -> Tensor:
    """Where the best class is neither the labelled one nor above a score, (B, H, W) bool.

    Background (0) and ignored pixels (255) never have the labelled class.

    Args:
        scores: (B, N, H, W) sigmoids; channel c is class c + 1.
        labels: (B, H, W).
        sure: score above which a pixel is decided.
    """
    best, place = scores.max(dim=1)
    return (place + 1 != labels) & (best <= sure)


def uncertainty_constraint(logits: Tensor, labels: Tensor, sure: float = SURE) -> Tensor:
    r"""Push the runner-up of undecided pixels down, :math:`\mathrm{mean}_i\, w_i (1 - u_i)^2`.

    u is the :func:`certainty`, w is 1 where a pixel is :func:`undecided` and 0 elsewhere; the mean is over all pixels.

    Args:
        logits: (B, N, H, W) of all classes; channel c is class c + 1.
        labels: (B, H, W), 0 = background, 255 = ignore.
        sure: score above which a pixel is decided.

    Source: Adapter (2025), "uncertainty-aware constraint"; released code.
    """
    scores = logits.sigmoid()
    return (undecided(scores.detach(), labels, sure) * (1 - certainty(scores)).square()).mean()
