"""Remembered queries of every class: what SimCIS replays instead of images.

The bank is a part of the method's state: for each class a ring of the last vectors, in half precision, and how many have ever
been stored. It knows nothing of networks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from model.methods.base import State

VECTORS, STORED, LABELS = "vectors", "stored", "labels"


def empty_bank(classes: int, size: int, channels: int, device: torch.device) -> State:
    """A bank without a vector.

    Args:
        classes: of all steps.
        size: vectors that are kept of each class.
        channels: of a vector.
        device: where it lives.

    Returns:
        ``vectors`` (classes, size, channels) float16 and ``stored`` (classes,) int64.
    """
    return {
        VECTORS: torch.zeros(classes, size, channels, dtype=torch.float16, device=device),
        STORED: torch.zeros(classes, dtype=torch.int64, device=device),
    }


def store(bank: State, vectors: Tensor, labels: Tensor) -> None:
    """Append vectors (N, C) to the rings of their classes (N,), in their order; the oldest give way."""
    size = bank[VECTORS].shape[1]
    # How many vectors of the same class come before each.
    same = labels[:, None] == labels[None]
    earlier = (same & torch.ones_like(same).tril(-1)).sum(dim=1)
    total = same.sum(dim=1)
    place = (bank[STORED][labels] + earlier) % size
    # Where more arrive than a ring holds, the last ones stay: vectors that share a place all become the last of them.
    rounds = ((total - 1 - earlier) // size) * size
    last = (same & (earlier[None] == (earlier + rounds)[:, None])).to(torch.uint8).argmax(dim=1)
    if len(labels):
        bank[VECTORS][labels, place] = vectors.detach().to(torch.float16)[last]
    bank[STORED].index_add_(0, labels, torch.ones_like(labels))


def class_weights(counts: Tensor, exponent: float) -> Tensor:
    r"""How often each class is drawn: rare classes more often.

    .. math:: ω_c = \left( \frac{\sum_j (σ_j + 1)}{σ_c + 1} \right)^α

    Args:
        counts: (K_old,) σ, pseudo targets of each old class in the data of the step.
        exponent: α.
    """
    smoothed = counts.double() + 1
    return (smoothed.sum() / smoothed).pow(exponent)


def draw_virtual(bank: State, weights: Tensor, images: int, each: int) -> tuple[Tensor, Tensor] | None:
    """Vectors (B, V, C) float16 and their classes (B, V), drawn with replacement; None if the bank has none of these classes.

    Args:
        bank: from which vectors are drawn uniformly within a class.
        weights: (K_old,) of the first classes; those without a vector are never drawn.
        images: B.
        each: V.
    """
    filled = bank[STORED][: len(weights)].clamp(max=bank[VECTORS].shape[1])
    possible = torch.where(filled > 0, weights.to(filled.device), 0.0)
    if not possible.any():
        return None
    labels = torch.multinomial(possible, images * each, replacement=True)
    place = (torch.rand(len(labels), dtype=torch.float64, device=labels.device) * filled[labels]).long()
    vectors = bank[VECTORS][labels, place]
    return vectors.view(images, each, -1), labels.view(images, each)


def trimmed_bank(bank: State, classes: int) -> State:
    """The vectors of the first classes alone: what is worth carrying on."""
    return {VECTORS: bank[VECTORS][:classes].clone(), STORED: bank[STORED][:classes].clone()}


def grown_bank(bank: State, classes: int) -> State:
    """Room for more classes, of which there is no vector."""
    known, size, channels = bank[VECTORS].shape
    whole = empty_bank(classes, size, channels, bank[VECTORS].device)
    whole[VECTORS][:known], whole[STORED][:known] = bank[VECTORS], bank[STORED]
    return whole
