"""The targets of all images of a batch in common tensors, so that a device compares them with predictions in few large steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.data.loading.mask_batch import MaskTargets
from model.losses.matching import Pairs
from model.losses.point_sampling import sample_points


@dataclass(frozen=True)
class TargetBatch:
    """Targets of B images, T altogether, N at most in one.

    Attributes:
        counts: of each image.
        labels: (T,) int64, image after image.
        padded: (B, N) int64, the labels of each image and zeros.
        masks: (T, 1, H, W), 0 or 1, in the precision that they are compared in.
    """

    counts: tuple[int, ...]
    labels: Tensor
    padded: Tensor
    masks: Tensor

    @classmethod
    def of(cls, targets: Sequence[MaskTargets], dtype: torch.dtype) -> TargetBatch:
        """Of the targets of each image, whose masks have one size."""
        labels = [target.labels for target in targets]
        return cls(
            tuple(len(target) for target in targets),
            torch.cat(labels),
            pad_sequence(labels, batch_first=True),
            torch.cat([target.masks for target in targets]).to(dtype)[:, None],
        )

    def pairs(self, queries: int) -> int:
        """Number of pairs if each image has so many queries."""
        return sum(min(queries, count) for count in self.counts)

    def split(self, values: Tensor) -> tuple[Tensor, ...]:
        """Rows (T, …) of each image."""
        return values.split(list(self.counts))

    def padded_rows(self, values: Sequence[Tensor]) -> Tensor:
        """Rows (n, …) of each image, followed by zeros: (B, N, …)."""
        most = max(self.counts)
        return torch.stack([F.pad(rows, [0, 0] * (rows.dim() - 1) + [0, most - len(rows)]) for rows in values])

    def at_common_points(self, points: Sequence[Tensor]) -> Tensor:
        """Samples of all masks of an image at the same points.

        Args:
            points: (B, P, 2) for each of L sets of predictions.

        Returns:
            (L, B, N, P), zeros where an image has fewer masks.
        """
        sampled = [
            sample_points(masks.transpose(0, 1), of_image)[0]  # n, L·P
            for masks, of_image in zip(self.split(self.masks), torch.cat(list(points), dim=1)[:, None], strict=True)
        ]
        return self.padded_rows(sampled).unflatten(-1, (len(points), -1)).movedim(2, 0)

    def at_own_points(self, points: Sequence[Tensor], pairs: Pairs) -> list[Tensor]:
        """Samples of the mask of every pair at points of its own.

        Args:
            points: (M, P, 2) for each of L sets of predictions.
            pairs: their M pairs.

        Returns:
            (M, P) for each of them.
        """
        count = points[0].shape[1]
        of_targets = [
            one.new_zeros(len(self.labels), count, 2).index_copy(0, places, one)
            for one, places in zip(points, pairs.targets, strict=True)
        ]
        sampled = sample_points(self.masks, torch.cat(of_targets, dim=1))[:, 0].split(count, dim=1)  # L × (T, P)
        return [values.index_select(0, places) for values, places in zip(sampled, pairs.targets, strict=True)]

    def query_labels(self, pairs: Pairs, queries: int, nothing: int) -> Tensor:
        """The label that each query should predict: (L, B, queries), ``nothing`` where it answers for no target."""
        size = (len(pairs.queries), len(self.counts) * queries)
        labels = torch.full(size, nothing, dtype=torch.int64, device=self.labels.device)
        labels.scatter_(1, pairs.queries, self.labels[pairs.targets])
        return labels.unflatten(1, (-1, queries))
