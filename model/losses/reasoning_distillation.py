"""Distillation of the reasons for and against a class, one by one.

Baek, Oh, Lee, Lee & Ham, "Decomposed Knowledge Distillation for Class-Incremental Semantic Segmentation" (DKD), NeurIPS 2022.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from model.losses.distillation import sigmoid_distillation
from model.losses.precision import at_least_single


def reasoning_scores(features: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    r"""What speaks for and what against each class; with the bias their sum is the logit.

    .. math:: z^+_c = \sum_d x_d \max(w_{cd}, 0), \quad z^-_c = \sum_d x_d \min(w_{cd}, 0)

    Args:
        features: (B, C, h, w) that the classifiers read. Only features that are never negative part the logit as the names
            promise.
        weight: (K, C, 1, 1) of 1x1 classifiers.

    Returns:
        Positive and negative scores, (B, K, h, w) each, at least in single precision.

    Source: DKD (2022); released code.
    """
    positive, negative = (functional.conv2d(features, part) for part in (weight.clamp(min=0), weight.clamp(max=0)))
    return at_least_single(positive), at_least_single(negative)


def reasoning_distillation(
    features: Tensor, weight: Tensor, old_features: Tensor, old_weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy of both kinds of scores with the sigmoids of the old ones: sum over classes, mean over positions.

    Args:
        features: (B, C, h, w) of the network in training.
        weight: (K_old, C, 1, 1), its classifiers of the old classes.
        old_features: (B, C, h, w) of the previous step's network; no gradient flows into it.
        old_weight: (K_old, C, 1, 1), the old classifiers.

    Returns:
        The loss of the positive and of the negative scores, scalars.

    Raises:
        ValueError: if the shapes do not fit.

    Source: DKD (2022); "dkd_pos" and "dkd_neg" of the released code.
    """
    new, old = reasoning_scores(features, weight), reasoning_scores(old_features, old_weight)
    return sigmoid_distillation(new[0], old[0]), sigmoid_distillation(new[1], old[1])
