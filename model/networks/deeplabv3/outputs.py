"""What a per-pixel network returns to losses and decision rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.nn import functional


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

    @property
    def compact_logits(self) -> Tensor:
        """(B, K, h, w), of which ``logits`` are the bilinear up-sampling; ``logits`` themselves if they came about otherwise."""
        return self.logits


class UpsampledOutputs(PixelOutputs):
    """Outputs whose ``logits`` are up-sampled when they are first asked for: some losses never hold them as a whole."""

    def __init__(
        self,
        logits: Tensor | None = None,
        *,
        pre_logits: Tensor,
        body: Tensor,
        coarse_logits: Tensor,
        stages: tuple[Tensor, ...] = (),
        size: tuple[int, int] | None = None,
    ) -> None:
        """
        Args:
            logits: given instead of the up-sampled ones.
            pre_logits, body, coarse_logits, stages: see the class above.
            size: (H, W) of the images; needed unless the logits are given.
        """
        given: dict[str, Any] = {} if logits is None else {"logits": logits}
        given |= {"pre_logits": pre_logits, "body": body, "coarse_logits": coarse_logits, "stages": stages}
        vars(self).update(given, _size=size, _compact=coarse_logits if logits is None else logits)

    @property
    def compact_logits(self) -> Tensor:
        compact: Tensor = vars(self)["_compact"]
        return compact

    def __getattr__(self, name: str) -> Any:
        if name != "logits":
            raise AttributeError(f"{type(self).__name__} has no {name}")
        values = vars(self)
        values["logits"] = functional.interpolate(
            values["coarse_logits"], size=values["_size"], mode="bilinear", align_corners=False
        )
        return values["logits"]
