"""Replay without images: what is kept of each class's features, and features drawn from it.

Chen et al., "Saving 100x Storage: Prototype Replay for Reconstructing Training Sample Distribution in Class-Incremental
Semantic Segmentation" (STAR), NeurIPS 2023. A class leaves 2C + 3 numbers behind: a unit prototype, the deviation of unit
features from it for each channel, mean and deviation of the features' norms, and how many pixels it had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

Draw = Callable[[Sequence[int]], Tensor]
"""Standard normal numbers of a shape."""


class FeatureError(ValueError):
    """Labels and features that do not share a grid."""


def grid_labels(labels: Tensor, features: Tensor) -> Tensor:
    """Labels at the centres of the cells of a feature map: every s-th pixel from s/2 on.

    Args:
        labels: (B, H, W).
        features: (B, C, h, w), H = s·h and W = s·w.

    Raises:
        FeatureError: if the sizes are not such multiples.
    """
    stride = labels.shape[1] // features.shape[2]
    found = labels[:, stride // 2 :: stride, stride // 2 :: stride] if stride else labels
    if found.shape[1:] != features.shape[2:]:
        raise FeatureError(
            f"labels of {tuple(labels.shape[1:])} and features of {tuple(features.shape[2:])} share no grid; "
            "use crops whose size is a multiple of the network's output stride"
        )
    return found


@dataclass(frozen=True)
class ClassStatistics:
    """What is kept of C classes, in learning order.

    Attributes:
        prototypes: (C, D), unit rows.
        deviations: (C, D), root mean square distance of unit features from the prototype, by channel.
        norms: (2, C), mean and standard deviation of the features' norms.
    """

    prototypes: Tensor
    deviations: Tensor
    norms: Tensor

    def followed_by(self, others: ClassStatistics) -> ClassStatistics:
        """These classes, then others."""
        return ClassStatistics(
            torch.cat([self.prototypes, others.prototypes]),
            torch.cat([self.deviations, others.deviations]),
            torch.cat([self.norms, others.norms], dim=1),
        )


def class_features(features: Tensor, labels: Tensor, classes: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Place in ``classes`` and features (n, D) of each class that a batch has on the grid, in double precision."""
    rows = features.permute(0, 2, 3, 1)
    labels = grid_labels(labels, features)
    for place, wanted in enumerate(classes):
        found = rows[labels == wanted]
        if len(found):
            yield place, found.double()


def measure_classes(
    one_pass: Callable[[], Iterable[tuple[Tensor, Tensor]]],
    classes: Sequence[int],
    reference: Callable[[Tensor], Tensor] | None = None,
) -> ClassStatistics:
    """Statistics of some classes, by two passes over features (B, D, h, w) with labels (B, H, W).

    Args:
        one_pass: called twice.
        classes: labels, in order.
        reference: from the prototypes (C, D) to the points that deviations are measured from; None takes the prototypes.

    Returns:
        In the precision of the features, at least single. Norms deviate as in a sample (n − 1); a class without a pixel has
        zeros, one with a single pixel no deviation of its norm.

    Raises:
        FeatureError: if the passes give nothing.
    """
    sums: Tensor | None = None
    kind = torch.float32
    counts, norm_sums = torch.zeros(len(classes)), torch.zeros(len(classes))
    for features, labels in one_pass():
        if sums is None:
            sums = torch.zeros(len(classes), features.shape[1], dtype=torch.double, device=features.device)
            counts, norm_sums = counts.to(sums), norm_sums.to(sums)
            kind = torch.promote_types(features.dtype, torch.float32)
        for place, found in class_features(features, labels, classes):
            sums[place] += functional.normalize(found, dim=1).sum(dim=0)
            norm_sums[place] += found.norm(dim=1).sum()
            counts[place] += len(found)
    if sums is None:
        raise FeatureError("there are no batches to measure classes in")
    some = counts.clamp(min=1)
    prototypes, means = functional.normalize(sums, dim=1), norm_sums / some
    centres = prototypes if reference is None else reference(prototypes.to(kind)).double()
    squares, norm_squares = torch.zeros_like(sums), torch.zeros_like(norm_sums)
    for features, labels in one_pass():
        for place, found in class_features(features, labels, classes):
            squares[place] += (functional.normalize(found, dim=1) - centres[place]).square().sum(dim=0)
            norm_squares[place] += (found.norm(dim=1) - means[place]).square().sum()
    deviations = (squares / some[:, None]).sqrt()
    norms = torch.stack([means, (norm_squares / (counts - 1).clamp(min=1)).sqrt()])
    return ClassStatistics(prototypes.to(kind), deviations.to(kind), norms.to(kind))


def draw_features(
    statistics: ClassStatistics, counts: Sequence[int], draw: Draw, norm_per_channel: bool = True
) -> Tensor:
    r"""Features :math:`(p_c + ε ⊙ σ_c)(μ_c + s_c ξ)` with standard normal ε and ξ.

    Args:
        statistics: of C classes.
        counts: how many features of each.
        draw: (1, D, n, 1) numbers a call; for each class with any feature first ε, then ξ.
        norm_per_channel: ξ is drawn for each channel, as released; otherwise one for each feature, (1, 1, n, 1).

    Returns:
        (1, D, sum of counts, 1): an image of one column.
    """
    size = statistics.prototypes.shape[1]
    parts = [statistics.prototypes.new_zeros(1, size, 0, 1)]
    for row, count in enumerate(counts):
        if count:
            direction = draw((1, size, count, 1))
            length = draw((1, size if norm_per_channel else 1, count, 1))
            prototype = statistics.prototypes[row].view(1, -1, 1, 1)
            deviation = statistics.deviations[row].view(1, -1, 1, 1)
            mean, spread = statistics.norms[:, row]
            parts.append((prototype + direction * deviation) * (mean + spread * length))
    return torch.cat(parts, dim=2)
