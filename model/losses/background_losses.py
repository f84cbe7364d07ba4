"""MiB's two losses of an increment in one pass over the up-sampled logits, which are never stored.

Cermelli et al., "Modeling the Background for Incremental Learning in Semantic Segmentation", CVPR 2020, equations 4-8. The losses
are :func:`~model.losses.classification.unbiased_cross_entropy` and
:func:`~model.losses.distillation.unbiased_knowledge_distillation` of logits at the size of the labels. Written with ordinary
operations, these keep about ten tensors of the size of the up-sampled logits until the backward pass. Here a few rows of an image
are up-sampled at a time, compared and forgotten; the backward pass, whose formulas stand below, makes them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from model.common.devices import sent
from model.data.prepared.labels import IGNORE
from model.losses.precision import at_least_single

CACHED_BYTES, LAUNCHED_BYTES = 4 << 20, 256 << 20
"""Of up-sampled logits at a time: what stays in a processor's cache; on other devices more, so that there are few launches."""


def background_losses(logits: Tensor, old_logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    r"""Unbiased cross-entropy and unbiased distillation, both the mean over all pixels.

    With the logits z and z° at a pixel, :math:`\operatorname{lse}` the logarithm of the sum of exponentials, and

    .. math:: A = \operatorname{lse}_{k<K_{old}} z_k,\quad N = \operatorname{lse}_{k≥K_{old}} z_k,\quad
              D = \operatorname{lse}(A, N),\quad B = \operatorname{lse}(z_0, N),\quad p° = \operatorname{softmax}(z°)

    the losses of the pixel are :math:`D - A` where it is labelled as background or old, :math:`D - z_y` where it is labelled as
    new, 0 where it is ignored, and

    .. math:: \frac{1}{K_{old}} \Big( D - p°_0 B - \sum_{1 ≤ k<K_{old}} p°_k z_k \Big)

    Args:
        logits: (B, K, h, w) of the network in training, background first; up-sampled bilinearly to the size of the labels
            where they are smaller.
        old_logits: (B, K_old, h, w) of the previous step's network, K_old ≤ K; no gradient flows into it.
        labels: (B, H, W); every label below K_old counts as background; 255 = ignore.

    Returns:
        Cross-entropy and distillation, scalars. First derivatives only.

    Raises:
        ValueError: if the shapes do not fit.
    """
    old = old_logits.shape[1]
    if logits.shape[1] < old or not len(logits) == len(old_logits) == len(labels):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} cannot be compared with old logits of shape "
            f"{tuple(old_logits.shape)} and labels of shape {tuple(labels.shape)}: expected at least {old} channels and "
            "the same images"
        )
    with torch.autocast(logits.device.type, enabled=False):
        both = [at_least_single(z) for z in (logits, old_logits.detach())]
        if logits.shape[2:] != old_logits.shape[2:]:
            both = [functional.interpolate(z, size=labels.shape[1:], mode="bilinear") for z in both]
        wide, old_wide = (_widened(z, labels.shape[2]) for z in both)
        entropy, distillation = _BackgroundLosses.apply(wide, old_wide, labels)
    return entropy, distillation


def _widened(logits: Tensor, width: int) -> Tensor:
    """Up-sampled along rows alone, (B, K, h, W); what is left to do for a row is a mean of two."""
    if logits.shape[3] == width:
        return logits
    return functional.interpolate(logits, size=(logits.shape[2], width), mode="bilinear", align_corners=False)


@dataclass(frozen=True)
class _Rows:
    """Some rows of an up-sampled image, each a mean of two rows of the original.

    Attributes:
        image: number of the image.
        rows: which of the up-sampled rows.
        first, last: original rows that they are made from.
        weights: (rows, last − first), None where they are the original rows.
    """

    image: int
    rows: slice
    first: int
    last: int
    weights: Tensor | None

    def of(self, wide: Tensor) -> Tensor:
        """(K, rows, W) of (B, K, h, W)."""
        source = wide[self.image, :, self.first : self.last]
        return source.clone() if self.weights is None else torch.matmul(self.weights, source)

    def add_to(self, gradient: Tensor, values: Tensor) -> None:
        """Add the gradient of the rows (K, rows, W) to that of the original (B, K, h, W)."""
        target = gradient[self.image, :, self.first : self.last]
        target += values if self.weights is None else torch.matmul(self.weights.T, values)


def _chunks(wide: Tensor, height: int, weights: Tensor | None) -> Iterator[_Rows]:
    """All rows of all images, a few at a time; weights of :func:`_row_weights`, None if nothing is up-sampled."""
    images, channels, rows, width = wide.shape
    limit = CACHED_BYTES if wide.device.type == "cpu" else LAUNCHED_BYTES
    step = max(1, limit // (channels * width * wide.element_size()))
    for begin in range(0, height, step):
        end = min(begin + step, height)
        first, last = begin, end
        if weights is not None:
            first = max(0, (begin * rows) // height - 1)
            last = min(rows, ((end - 1) * rows) // height + 2)
        part = None if weights is None else weights[begin:end, first:last]
        for image in range(images):
            yield _Rows(image, slice(begin, end), first, last, part)


def _row_weights(rows: int, height: int) -> Tensor:
    """(height, rows): how much of each original row is in an up-sampled one, as in bilinear interpolation."""
    place = ((torch.arange(height, dtype=torch.float64) + 0.5) * (rows / height) - 0.5).clamp(min=0)
    low = place.floor().long().clamp(max=rows - 1)
    share = place - low
    weights = torch.zeros(height, rows, dtype=torch.float64)
    line = torch.arange(height)
    weights[line, low] = 1 - share
    weights[line, (low + 1).clamp(max=rows - 1)] += share
    return weights


class _BackgroundLosses(torch.autograd.Function):
    """See :func:`background_losses`; logits come up-sampled along rows."""

    @staticmethod
    def forward(ctx: Any, wide: Tensor, old_wide: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        old, height = old_wide.shape[1], labels.shape[1]
        # logarithms of sums: of old and of new channels, of all, and of the old network's
        sums = wide.new_empty(4, *labels.shape)
        rows = wide.shape[2]
        weights = None if rows == height else sent(_row_weights(rows, height).to(wide.dtype), wide.device)
        entropies, distillations = [], []
        for chunk in _chunks(wide, height, weights):
            z, z_old, y = chunk.of(wide), chunk.of(old_wide), labels[chunk.image, chunk.rows]
            a, n = z[:old].logsumexp(dim=0), _logsumexp(z[old:])
            d, d_old = torch.logaddexp(a, n), z_old.logsumexp(dim=0)
            sums[:, chunk.image, chunk.rows] = torch.stack([a, n, d, d_old])
            background = torch.logaddexp(z[0], n) - d
            z -= d
            hidden, ignored = y < old, y == IGNORE
            own = z.gather(0, torch.where(hidden | ignored, 0, y)[None])[0]
            entropies.append(torch.where(hidden, d - a, -own).masked_fill(ignored, 0.0).sum())
            p_old = (z_old - d_old).exp_()
            z[0] = background
            distillations.append((p_old * z[:old]).sum())
        ctx.save_for_backward(wide, old_wide, labels, sums, weights)
        pixels = labels.numel()
        return torch.stack(entropies).sum() / pixels, torch.stack(distillations).sum() / (-pixels * old)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, entropy: Tensor, distillation: Tensor) -> tuple[Tensor, None, None]:
        wide, old_wide, labels, sums, weights = ctx.saved_tensors
        old, height, pixels = old_wide.shape[1], labels.shape[1], labels.numel()
        gradient = torch.zeros_like(wide)
        each, kept = entropy / pixels, distillation / (pixels * old)
        for chunk in _chunks(wide, height, weights):
            z, p_old, y = chunk.of(wide), chunk.of(old_wide), labels[chunk.image, chunk.rows]
            a, n, d, d_old = sums[:, chunk.image, chunk.rows]
            p_old = p_old.sub_(d_old).exp_()
            b = torch.logaddexp(z[0], n)
            stays = p_old[0] * kept  # what the old background gives to the background and to all new classes
            at_background = stays * (z[0] - b).exp()
            hidden, ignored = y < old, y == IGNORE
            weight = torch.where(ignored, 0.0, each)
            both = weight + kept
            z[:old] = z[:old].sub_(a).exp_().mul_((a - d).exp_() * both - weight * hidden)
            z[old:] = z[old:].sub_(n).exp_().mul_((n - d).exp_() * both - stays * (n - b).exp_())
            z[1:old] -= p_old[1:].mul_(kept)
            z[0] -= at_background
            own = torch.where(hidden | ignored, 0, y)
            z.scatter_add_(0, own[None], torch.where(hidden, 0.0, -weight)[None])
            chunk.add_to(gradient, z)
        return gradient, None, None


def _logsumexp(z: Tensor) -> Tensor:
    """Over the first axis, which may be empty."""
    return z.logsumexp(dim=0) if len(z) else z.new_full(z.shape[1:], -torch.inf)
