"""Base of the methods on networks that label every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.methods.base import Method
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step


@dataclass(frozen=True)
class PixelMethod(Method[PixelBatch, PixelOutputs]):
    """Base of the methods on per-pixel classifiers: channel 0 is the background, channel k the k-th class."""

    family = "per-pixel"
    tasks = ("semantic",)
    network_arguments: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "name": ("deeplabv3", "deeplabv3-rcil"),
        "background": (True,),
    }

    def predict(self, outputs: PixelOutputs, step: Step) -> Tensor:
        """Label map (B, H, W) of positions: the channel with the largest logit."""
        return outputs.logits.argmax(dim=1)
