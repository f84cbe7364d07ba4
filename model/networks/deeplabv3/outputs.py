"""What a per-pixel network returns to losses and decision rules."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class PixelOutputs:
    """Logits, and the features used for distillation.

    Attributes:
        logits: (B, K, H, W) at image size, at least float32. With a background channel it is channel 0, and class ``k``
            of the learning order (from 1) is channel ``k``.
        pre_logits: (B, 256, h, w), output of the head and input of the 1x1 classifiers.
        body: (B, C, h, w), output of the backbone.
        coarse_logits: (B, K, h, w), the logits before up-sampling.
        stages: outputs of the four backbone stages before their last activation, if the network keeps them.
    """

    logits: Tensor
    pre_logits: Tensor
    body: Tensor
    coarse_logits: Tensor | None = None
    stages: tuple[Tensor, ...] = ()
