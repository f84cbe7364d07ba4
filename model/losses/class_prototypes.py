"""Class prototypes in the feature space of a backbone: their running means, and what holds features to them.

Michieli & Zanuttigh, "Continual Semantic Segmentation via Repulsion-Attraction of Sparse and Disentangled Latent
Representations" (SDR), CVPR 2021.

Labels here have the size of the feature map, see :mod:`model.losses.reduced_labels`; functions take them as they are or as
:class:`Regions`, which several of them can share. Every function takes ``released_layout``:
the released code picks the features of a class with a mask over (B, C, h, w) and re-reads the flat result, whose order is image,
channel, pixel, as a matrix. Read as C x n (running means, attraction, repulsion) it is right for one image only; read as n x C
(matching) it practically never is. ``False`` takes every pixel's own feature vector.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from model.common.devices import sent
from model.data.prepared.labels import IGNORE
from model.losses.precision import at_least_single

Layout = Literal["pixels", "released-columns", "released-rows"]
Repulsion = Literal["means", "prototypes", "orthogonal", "orthogonal-max"]


@dataclass(frozen=True)
class Regions:
    """Where each label of a batch is. Made by copying the labels to the host once; the classes then cost no further wait.

    Attributes:
        order: (B, P) int64 pixels of each image in ascending order of their label, those of one label in their own order.
        bounds: for each label that occurs, where its pixels begin and end in the order of each image.
    """

    order: Tensor
    bounds: Mapping[int, tuple[tuple[int, int], ...]]

    @classmethod
    def of(cls, labels: Tensor | Regions) -> Regions:
        """Of labels (B, h, w), or the regions themselves."""
        if isinstance(labels, Regions):
            return labels
        on_host = labels.flatten(1).cpu()
        ascending, order = on_host.sort(dim=1, stable=True)
        found = on_host.unique()
        wanted = found.expand(len(on_host), -1).contiguous()
        first, last = (torch.searchsorted(ascending, wanted, right=right).T.tolist() for right in (False, True))
        bounds = {
            label: tuple(zip(begin, end, strict=True))
            for label, begin, end in zip(found.tolist(), first, last, strict=True)
        }
        return cls(sent(order, labels.device), bounds)

    def sorted_features(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) with their pixels in this order: (B, C, P)."""
        flat = features.flatten(2)
        return flat.gather(2, self.order[:, None].expand(-1, flat.shape[1], -1))

    def rows(self, ordered: Tensor, label: int, layout: Layout = "pixels") -> Tensor:
        """(n, C) feature vectors of the n pixels of a class.

        Args:
            ordered: (B, C, P) of :meth:`sorted_features`.
            label: of the class.
            layout: ``pixels``, or one of the readings of the released code, see the top of this module.
        """
        bounds = self.bounds.get(label, ((0, 0),) * len(ordered))
        parts = [image[:, begin:end] for image, (begin, end) in zip(ordered, bounds, strict=True)]
        if layout == "pixels":
            return torch.cat([part.T for part in parts])
        channels, flat = ordered.shape[1], torch.cat([part.flatten() for part in parts])
        return flat.view(channels, -1).T if layout == "released-columns" else flat.view(-1, channels)


def present_classes(labels: Tensor | Regions, *, skip_first: bool = False, skip_background: bool = False) -> list[int]:
    """Labels that occur, ascending, without ignored pixels.

    Args:
        labels: (B, h, w), 255 = ignore.
        skip_first: leave out the smallest label that occurs, ignored pixels included: meant for the background, this is how the
            released code does it, and a batch without background loses a class.
        skip_background: leave out label 0.
    """
    present = list(Regions.of(labels).bounds)
    return [c for c in present[skip_first:] if c != IGNORE and not (skip_background and c == 0)]


def _columns(released_layout: bool) -> Layout:
    return "released-columns" if released_layout else "pixels"


def class_sums(
    features: Tensor, labels: Tensor | Regions, classes: Sequence[int], channels: int, *, released_layout: bool = False
) -> tuple[Tensor, Tensor]:
    """Sums of the features of some classes of a batch, and how many pixels these have; to be added up over processes.

    Args:
        features: (B, C, h, w); no gradient flows.
        labels: (B, h, w).
        classes: labels to sum up.
        channels: K, the number of rows of the result; rows of other classes are 0.
        released_layout: see the top of this module.

    Returns:
        (K, C) sums and (K,) numbers of pixels, both of the features' type.
    """
    features = at_least_single(features.detach())
    sums, counts = features.new_zeros(channels, features.shape[1]), features.new_zeros(channels)
    regions = Regions.of(labels)
    ordered = regions.sorted_features(features)
    for c in classes:
        rows = regions.rows(ordered, c, _columns(released_layout))
        sums[c], counts[c] = rows.sum(dim=0), len(rows)
    return sums, counts


def running_prototypes(prototypes: Tensor, counts: Tensor, sums: Tensor, new_counts: Tensor) -> tuple[Tensor, Tensor]:
    r"""Means over everything seen so far, :math:`p_c ← (\sum_i f_i + n_c p_c) / (n_c + m_c),\; n_c ← n_c + m_c`.

    Args:
        prototypes: (K, C).
        counts: (K,), :math:`n_c`.
        sums: (K, C), of :func:`class_sums`.
        new_counts: (K,), :math:`m_c`; a class with 0 keeps its prototype.

    Returns:
        (K, C) and (K,), of the type of ``prototypes`` and ``counts``.

    Source: SDR (2021), running prototypes; released code.
    """
    total = counts + new_counts.to(counts)
    known = (
        counts.double().unsqueeze(1) * prototypes.double()
    )  # counts grow beyond what single precision counts one by one
    means = (sums.double() + known) / total.double().clamp(min=1).unsqueeze(1)
    return torch.where((new_counts > 0).unsqueeze(1), means.to(prototypes), prototypes), total


def prototype_matching(
    features: Tensor,
    labels: Tensor | Regions,
    prototypes: Tensor,
    *,
    each_pixel: bool = False,
    norm: bool = False,
    released_layout: bool = False,
) -> Tensor:
    r"""Old classes stay where they were: distance of their mean feature in the batch from their prototype.

    .. math:: L = \frac{1}{|C|} \sum_{c ∈ C} \mathrm{mean}_j (m_{cj} - p_{cj})^2

    Args:
        features: (B, C, h, w).
        labels: (B, h, w), where an old class is known or assumed to be; 0 and 255 do not count.
        prototypes: (K, C); no gradient flows.
        each_pixel: mean squares of every pixel's distance, added up over classes without a division (an option of the release).
        norm: the paper's :math:`\lVert m_c - p_c \rVert` instead of the released mean of squares.
        released_layout: see the top of this module.

    Returns:
        Scalar; 0 if no class is there.

    Source: SDR (2021), prototypes matching; released code.
    """
    features, prototypes = at_least_single(features), prototypes.detach()
    layout: Layout = "released-rows" if released_layout else "pixels"
    regions = Regions.of(labels)
    ordered = regions.sorted_features(features)
    terms = []
    for c in present_classes(regions, skip_background=True):
        rows = regions.rows(ordered, c, layout)
        difference = (rows if each_pixel else rows.mean(dim=0)) - prototypes[c]
        distance = torch.linalg.vector_norm(difference, dim=-1) if norm else difference.square()
        terms.append(distance.mean())
    if not terms:
        return features.new_zeros(())
    return torch.stack(terms).sum() if each_pixel else torch.stack(terms).mean()


def attraction(
    features: Tensor,
    labels: Tensor | Regions,
    prototypes: Tensor,
    classes: Sequence[int],
    *,
    unit: bool = False,
    released_division: bool = False,
    released_layout: bool = False,
) -> Tensor:
    r"""Features of a class gather around its prototype, :math:`\frac{1}{n} \sum_c \mathrm{mean}_{i ∈ c, j} (f_{ij} - p_{cj})^2`.

    Args:
        features: (B, C, h, w).
        labels: (B, h, w).
        prototypes: (K, C); no gradient flows.
        classes: the n labels to gather, all of them in the batch.
        unit: features as unit vectors. As released, every channel of the prototypes is then divided by its length over all
            classes, once more for each class.
        released_division: the running sum is divided by n after every class, so that the last class weighs 1/n, the one before
            it 1/n², and so on.
        released_layout: see the top of this module.

    Returns:
        Scalar; 0 if no class is there.

    Source: SDR (2021), attraction of the contrastive term; released code.
    """
    features, prototypes = at_least_single(features), prototypes.detach()
    regions = Regions.of(labels)
    ordered = regions.sorted_features(features)
    terms = []
    for c in classes:
        rows = regions.rows(ordered, c, _columns(released_layout))
        if unit:
            rows, prototypes = functional.normalize(rows, dim=1), functional.normalize(prototypes, dim=0)
        terms.append((rows - prototypes[c]).square().mean())
    count = len(terms)
    weights = [count ** -(count - i if released_division else 1.0) for i in range(count)]
    return sum((w * term for w, term in zip(weights, terms, strict=True)), features.new_zeros(()))


def repulsion(
    features: Tensor,
    labels: Tensor | Regions,
    prototypes: Tensor,
    classes: Sequence[int],
    *,
    form: Repulsion = "means",
    unit: bool = False,
    released_layout: bool = False,
) -> Tensor:
    r"""Classes keep away from one another: mean of :math:`1 / \lVert m_a - m_b \rVert` over pairs of mean features.

    Args:
        features: (B, C, h, w).
        labels: (B, h, w).
        prototypes: (K, C); no gradient flows.
        classes: labels to keep apart, all of them in the batch.
        form: ``means``; ``prototypes``: distances of means from the prototypes of the same classes, their own included;
            ``orthogonal``: products of means with the prototypes of all other classes, in the batch or not, and
            ``orthogonal-max`` the largest of these.
        unit: features as unit vectors, before they are averaged.
        released_layout: see the top of this module.

    Returns:
        Scalar; 0 if there is nothing to compare. Equal vectors, at an infinite inverse distance, are left out.

    Source: SDR (2021), repulsion of the contrastive term; released code.
    """
    features, prototypes = at_least_single(features), prototypes.detach()
    if not classes:
        return features.new_zeros(())
    regions = Regions.of(labels)
    ordered = regions.sorted_features(features)
    means = []
    for c in classes:
        rows = regions.rows(ordered, c, _columns(released_layout))
        means.append((functional.normalize(rows, dim=1) if unit else rows).mean(dim=0))
    stacked = torch.stack(means)
    places = sent(torch.as_tensor(classes), features.device)
    if form in ("orthogonal", "orthogonal-max"):
        others = torch.arange(len(prototypes), device=features.device).unsqueeze(1) != places
        products = (prototypes.to(stacked) @ stacked.T)[others]
        if products.numel() == 0:
            return features.new_zeros(())
        return products.max() if form == "orthogonal-max" else products.mean()
    partners = prototypes[places] if form == "prototypes" else stacked
    squares = (stacked.unsqueeze(1) - partners.unsqueeze(0)).square().sum(dim=2)
    squares = squares[squares > 0]
    return squares.rsqrt().mean() if squares.numel() else features.new_zeros(())
