"""How much each parameter matters for what was learnt, measured while training: formulas on one parameter tensor.

Source: the released MiB code, which carries EWC, Riemannian Walk and Path Integral to segmentation. Everything is gathered
online from gradients of mini-batches; there is no pass over the data after training.
"""

from __future__ import annotations

import torch
from torch import Tensor


def running_fisher(fisher: Tensor, gradient: Tensor, newest_weight: float) -> Tensor:
    r"""Moving average of squared gradients, :math:`f ← a g^2 + (1 - a) f`.

    With the released :math:`a = 0.9` the *newest* gradient has most of the weight, contrary to a usual moving average.
    """
    return newest_weight * gradient.square() + (1 - newest_weight) * fisher


def path_increment(gradient: Tensor, before: Tensor, now: Tensor) -> Tensor:
    r"""What one update of a parameter contributed to lowering the loss, :math:`g (θ_{before} - θ)`."""
    return gradient * (before - now)


def path_importance(path: Tensor, start: Tensor, end: Tensor, epsilon: float = 1e-20) -> Tensor:
    r"""Path integral over the squared distance covered, :math:`\max(0, δ / ((θ_{end} - θ_{start})^2 + ε))`.

    Source: Zenke et al., "Continual Learning Through Synaptic Intelligence", ICML 2017, eq. 4-5. The released ε is so
    small that a parameter which hardly moved gets an enormous importance; the normalisation hides that.
    """
    return (path / ((end - start).square() + epsilon)).clamp(min=0)


def walk_increment(gradient: Tensor, before: Tensor, now: Tensor, fisher: Tensor, epsilon: float = 1e-8) -> Tensor:
    r"""Change of the loss over change of the distribution, :math:`g (θ_{before} - θ) / (f (θ - θ_{before})^2 / 2 + ε)`.

    Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018, eq. 7.
    """
    return path_increment(gradient, before, now) / (0.5 * fisher * (now - before).square() + epsilon)


def normalised_range(importance: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Stretched to 0 … 1 within the tensor: every parameter tensor then weighs the same, however large its gradients."""
    low, high = torch.aminmax(importance)
    return (importance - low) / (high - low + epsilon)


def quadratic_penalty(importance: Tensor, parameter: Tensor, reference: Tensor) -> Tensor:
    r"""Scalar :math:`\sum Ω (θ - θ_{old})^2`."""
    return (importance * (parameter - reference).square()).sum()


def quadratic_penalty_gradient(importance: Tensor, parameter: Tensor, reference: Tensor) -> Tensor:
    r"""Gradient of :func:`quadratic_penalty`, :math:`2 Ω (θ - θ_{old})`."""
    return 2 * importance * (parameter - reference)
