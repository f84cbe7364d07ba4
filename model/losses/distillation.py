"""Distillation: what the previous step's network thought, as a target. No gradient flows into the old outputs."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from model.losses.classification import one_hot

Reduction = Literal["mean", "sum", "none"]


def _old_channels(logits: Tensor, old_logits: Tensor) -> int:
    """Number of old channels, after checking that both maps can be compared."""
    old = old_logits.shape[1]
    if logits.shape[1] < old or logits.shape[0] != old_logits.shape[0] or logits.shape[2:] != old_logits.shape[2:]:
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} cannot be compared with old logits of shape "
            f"{tuple(old_logits.shape)}: expected at least {old} channels and the same images"
        )
    return old


def _soft_cross_entropy(
    log_q: Tensor, old_logits: Tensor, old_scale: float, mask: Tensor | None, reduction: Reduction
) -> Tensor:
    """Cross-entropy of (B, K_old, H, W) log-probabilities with the old softmax, divided by K_old, over all pixels."""
    target = (old_logits.detach() * old_scale).softmax(dim=1)
    values = -(target * log_q).mean(dim=1)  # the mean is the division by K_old
    if mask is not None:
        values = values * mask
    if reduction == "none":
        return values
    return values.sum() if reduction == "sum" else values.mean()


def knowledge_distillation(
    logits: Tensor,
    old_logits: Tensor,
    *,
    old_scale: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross-entropy between the old and the new opinion about the old classes.

    .. math:: L = -\frac{1}{|Ω|\,K_{old}} \sum_{i∈Ω} \sum_{k<K_{old}} p^{old}_{ik} \log p_{ik}

    Both distributions are softmaxes over the first K_old channels: the logits of new classes do not
    count. The division by K_old is why published weights are as large as 100.

    Args:
        logits: (B, K, H, W) of the network in training, K ≥ K_old.
        old_logits: (B, K_old, H, W) of the previous step's network.
        old_scale: multiplies the old logits only; above 1 it sharpens the target.
        mask: (B, H, W), multiplies every pixel's loss; masked pixels still count in the mean.
        reduction: ``mean`` over all pixels, ``sum`` or ``none``.

    Raises:
        ValueError: if the shapes do not fit.

    Source: LwF (2016), eq. 2-3 at temperature 1; the division follows the released MiB code.
    """
    old = _old_channels(logits, old_logits)
    return _soft_cross_entropy(logits[:, :old].log_softmax(dim=1), old_logits, old_scale, mask, reduction)


def unbiased_knowledge_distillation(
    logits: Tensor,
    old_logits: Tensor,
    *,
    old_scale: float = 1.0,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Distillation in which the old background stands for the background and all new classes.

    .. math:: \log q_0 = \log\Big(e^{z_0} + \sum_{k≥K_{old}} e^{z_k}\Big) - D,\quad \log q_k = z_k - D
              \;(1 ≤ k < K_{old})

    with :math:`D = \log\sum_k e^{z_k}`, and the loss of :func:`knowledge_distillation` with q in place of p: a network
    that moves background probability to a new class is not punished for it.

    Args:
        logits: (B, K, H, W), background first, K ≥ K_old.
        old_logits: (B, K_old, H, W), background first.
        old_scale: multiplies the old logits only.
        mask: (B, H, W), multiplies every pixel's loss; masked pixels still count in the mean.
        reduction: ``mean`` over all pixels, ``sum`` or ``none``.

    Raises:
        ValueError: if the shapes do not fit.

    Source: MiB (2020), eq. 7-8; released code.
    """
    old = _old_channels(logits, old_logits)
    log_p = logits.log_softmax(dim=1)
    background = torch.cat([log_p[:, :1], log_p[:, old:]], dim=1).logsumexp(dim=1, keepdim=True)
    log_q = torch.cat([background, log_p[:, 1:old]], dim=1)
    return _soft_cross_entropy(log_q, old_logits, old_scale, mask, reduction)


def sigmoid_distillation(logits: Tensor, old_logits: Tensor) -> Tensor:
    r"""Binary cross-entropy of every old channel with its old sigmoid: sum over channels, mean over all pixels.

    Args:
        logits: (B, K, H, W), K ≥ K_old.
        old_logits: (B, K_old, H, W).

    Raises:
        ValueError: if the shapes do not fit.

    Source: iCaRL (2017), eq. 2, as LwF-MC in the released MiB code ("combined" form: K_old times the mean).
    """
    old = _old_channels(logits, old_logits)
    target = old_logits.detach().sigmoid()
    return old * functional.binary_cross_entropy_with_logits(logits[:, :old], target)


def replaced_target_cross_entropy(
    logits: Tensor, old_logits: Tensor, labels: Tensor, *, hard_background: bool = False
) -> Tensor:
    """Binary cross-entropy whose targets are old sigmoids for old channels and labels for new ones.

    Sum over channels, mean over all pixels. An ignored pixel keeps its old targets and has 0 for every new class, as
    released.

    Args:
        logits: (B, K, H, W), K ≥ K_old.
        old_logits: (B, K_old, H, W).
        labels: (B, H, W) channels, 255 = ignore.
        hard_background: the background channel keeps its label as the target.

    Raises:
        ValueError: if the shapes do not fit.

    Source: iCaRL (2017), eq. 1-2; "disjoint" form of LwF-MC in the released MiB code (an option there, not its
    default).
    """
    old = _old_channels(logits, old_logits)
    targets = one_hot(labels, logits.shape[1]).to(logits.dtype)
    first = 1 if hard_background else 0
    targets[:, first:old] = old_logits.detach().sigmoid()[:, first:]
    return logits.shape[1] * functional.binary_cross_entropy_with_logits(logits, targets)


def feature_distillation(
    features: Tensor, old_features: Tensor, region: Tensor | None = None, *, cosine: bool = False
) -> Tensor:
    """Mean difference of two feature maps of the same shape.

    Args:
        features: (B, C, h, w) of the network in training.
        old_features: (B, C, h, w) of the previous step's network; no gradient flows into it.
        region: (B, h, w) bool, pixels to compare; None compares all.
        cosine: 1 minus the cosine of the two vectors of a pixel, instead of the mean square over all channels.

    Returns:
        Scalar; 0 for an empty region.

    Source: ILT (Michieli & Zanuttigh, ICCV Workshops 2019), eq. 5; region and cosine are options of the released code of SDR.
    """
    old_features = old_features.detach()
    if region is None and not cosine:
        return functional.mse_loss(features, old_features)
    if cosine:
        values = 1 - functional.cosine_similarity(features, old_features, dim=1)
    else:
        values = (features - old_features).square().mean(dim=1)
    if region is None:
        return values.mean()
    return (values * region).sum() / region.sum().clamp(min=1)
