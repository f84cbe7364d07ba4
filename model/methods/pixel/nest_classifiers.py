"""New classifiers as learnt combinations of the old ones, prepared before a step.

Xie, Lu, Xiao, Wang, Zhang & Liu, "Early Preparation Pays Off: New Classifier Pre-tuning for Class Incremental Semantic
Segmentation" (NeST), ECCV 2024.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.losses.classification import unbiased_cross_entropy
from model.methods.base import Reduce

MOMENTUM, WEIGHT_DECAY, POWER = 0.9, 1e-4, 0.9
"""Of the released pre-tuning: SGD with Nesterov momentum and polynomial decay."""


def old_rows(network: Any) -> tuple[Tensor, Tensor]:
    """Weights (K_old, C) and biases (K_old,) of all classifiers but the newest."""
    old = list(network.cls)[:-1]
    return torch.cat([c.weight.detach().flatten(1) for c in old]), torch.cat([c.bias.detach() for c in old])


@dataclass
class Reactions:
    """How old classifiers react to new classes, summed over pixels of a grid.

    Attributes:
        sums: (N, K_old, C) in double precision.
        counts: (N,) pixels of each new class.
    """

    sums: Tensor
    counts: Tensor

    @classmethod
    def none(cls, new: int, rows: Tensor) -> Reactions:
        """No pixel seen yet, for N new classes and old weights (K_old, C)."""
        zeros = torch.zeros(new, *rows.shape, dtype=torch.double, device=rows.device)
        return cls(zeros, zeros[:, 0, 0].clone())

    def observe(self, features: Tensor, logits: Tensor, labels: Tensor, rows: Tensor, grid: int) -> None:
        r"""Add :math:`P_c\,[X_d W_{cd} > 0]` of every pixel of a new class.

        Args:
            features: (B, C, h, w), X of the old network.
            logits: (B, K_old, H, W) of the old network; P is their softmax on the grid.
            labels: (B, H, W).
            rows: (K_old, C), W.
            grid: side of the grid.
        """
        side = (grid, grid)
        x = functional.interpolate(features, side, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)
        resized = functional.interpolate(logits, side, mode="bilinear", align_corners=False)
        p = resized.softmax(dim=1).permute(0, 2, 3, 1)
        y = functional.interpolate(labels.unsqueeze(1).double(), side, mode="nearest")[:, 0].long()
        for place in range(len(self.counts)):
            chosen = y == rows.shape[0] + place
            probabilities, found = p[chosen].double(), x[chosen]  # n, K_old and n, C
            agreeing = (probabilities.T @ (found > 0).double()) * (rows > 0)
            self.sums[place] += agreeing + (probabilities.T @ (found < 0).double()) * (rows < 0)
            self.counts[place] += len(found)

    def mean(self, reduce: Reduce) -> Tensor:
        """(N, K_old, C), over all processes; zero for a class without a pixel on the grid, where the release has NaN."""
        sums, counts = reduce(self.sums, "sum"), reduce(self.counts, "sum")
        return sums / counts.clamp(min=1).view(-1, 1, 1)


class CombinedClassifiers:
    r"""Classifiers whose new rows combine the old ones channel by channel, :math:`w_k = \sum_c v_{kc}\,(M_{kc} ⊙ W_c)`.

    The background's row is scaled, :math:`w_0 = s (m ⊙ W_0)`; the other old rows and all old biases are constants.

    Attributes:
        matrices: (N, K_old, C), M.
        shares: (N, K_old), v.
        biases: (N,) of the new classes.
        background: (1, C), m.
        scale: (1, 1), s.
    """

    def __init__(self, rows: Tensor, old_biases: Tensor, reactions: Tensor, start_bias: Tensor) -> None:
        """
        Args:
            rows: (K_old, C), old weights, background first.
            old_biases: (K_old,).
            reactions: (N, K_old, C) of :class:`Reactions`.
            start_bias: scalar, where the biases of all new classes start.
        """
        self.rows, self.old_biases = rows, old_biases
        self.matrices = reactions.to(rows).requires_grad_()
        self.shares = reactions.to(rows).sum(dim=2).softmax(dim=1).requires_grad_()
        self.biases = start_bias.detach().to(rows).expand(len(reactions)).clone().requires_grad_()
        self.background = torch.ones_like(rows[:1]).requires_grad_()
        self.scale = torch.ones_like(rows[:1, :1]).requires_grad_()

    @property
    def parameters(self) -> tuple[Tensor, ...]:
        """What is tuned."""
        return self.matrices, self.shares, self.biases, self.background, self.scale

    @property
    def new_rows(self) -> Tensor:
        """(N, C)."""
        return torch.einsum("nk,nkc,kc->nc", self.shares, self.matrices, self.rows)

    @property
    def background_row(self) -> Tensor:
        """(1, C)."""
        return self.scale * (self.background * self.rows[:1])

    def logits(self, features: Tensor) -> Tensor:
        """(B, C, h, w) to (B, K, h, w)."""
        weight = torch.cat([self.background_row, self.rows[1:], self.new_rows])
        return functional.conv2d(features, weight[:, :, None, None], torch.cat([self.old_biases, self.biases]))

    @torch.no_grad()
    def write(self, network: Any) -> None:
        r"""Put the rows into a network, as long as the old ones: the new classifier and the background's row change, in place.

        .. math:: W_0 ← w_0 \frac{‖W_0‖}{‖w_0‖}, \quad b_k ← b_k \frac{‖b_{old}‖}{‖b_{new}‖}, \quad
                  w_k ← w_k \frac{\mathrm{mean}_c ‖W_c‖}{\mathrm{mean}_j ‖w_j‖}

        Norms of biases are those of whole vectors: a single new bias gets the size of all old ones together.

        Source: NeST (2024), released code.
        """
        new, bias = self.new_rows, self.biases
        background = self.background_row * (self.rows[0].norm() / self.background_row.norm())
        length = torch.cat([background, self.rows[1:]]).norm(dim=1).mean()
        base, newest = network.cls[0], network.cls[-1]
        base.weight[0] = background.view_as(base.weight[0])
        newest.weight.copy_((new * (length / new.norm(dim=1).mean())).view_as(newest.weight))
        newest.bias.copy_(bias * (self.old_biases.norm() / bias.norm()))


def pretune(
    classifiers: CombinedClassifiers,
    network: nn.Module,
    batches: Callable[[], Iterable[Any]],
    *,
    epochs: int,
    batches_per_epoch: int,
    learning_rate: float,
    reduce: Reduce,
    momentum: float = MOMENTUM,
    weight_decay: float = WEIGHT_DECAY,
) -> Iterator[Tensor]:
    r"""Tune combined classifiers on a network that does not learn, by MiB's unbiased cross-entropy; yields every loss.

    The rate of iteration i is :math:`\mathrm{lr}\,(1 - (i + 1)/I)^{0.9}`, the last one 0. The network is in training mode: it
    uses statistics of the batch and moves the running ones.

    Args:
        classifiers: changed in place.
        network: whose ``pre_logits`` are classified.
        batches: call it for one pass.
        epochs: passes.
        batches_per_epoch: length of a pass.
        learning_rate: lr.
        reduce: averages gradients over processes.
        momentum, weight_decay: of SGD.

    Source: NeST (2024), released code.
    """
    tuned, iterations, done = list(classifiers.parameters), epochs * batches_per_epoch, 0
    optimiser = torch.optim.SGD(tuned, lr=learning_rate, momentum=momentum, nesterov=True, weight_decay=weight_decay)
    network.train()
    for _ in range(epochs):
        for batch in batches():
            done += 1
            optimiser.param_groups[0]["lr"] = learning_rate * max(0.0, 1 - done / iterations) ** POWER
            with torch.no_grad():
                features = network(batch.images).pre_logits
            optimiser.zero_grad()
            with torch.enable_grad():
                coarse = classifiers.logits(features)
                logits = functional.interpolate(coarse, batch.labels.shape[1:], mode="bilinear", align_corners=False)
                loss = unbiased_cross_entropy(logits, batch.labels, len(classifiers.rows))
                loss.backward()
            for tensor in tuned:
                tensor.grad = reduce(tensor.grad, "mean") if tensor.grad is not None else None
            optimiser.step()
            yield loss.detach()
    network.eval()
