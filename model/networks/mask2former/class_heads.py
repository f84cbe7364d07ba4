"""Class heads: from a query's embedding to class logits with "no object" last.

The three kinds differ in how they grow and in the names under which published checkpoints store them. All emit the logits
in learning order, C_0, C_1, …, C_t, and then "no object", however they store it.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

ClassHeadName = Literal["joint", "steps", "separate-no-object"]
"""What recipes call the three kinds."""


class ClassHead(nn.Module):
    """What the mask decoder asks of a class head."""

    name: str
    """Attribute of the decoder, hence part of the parameters' names."""

    @property
    @abstractmethod
    def classes_per_step(self) -> list[int]:
        """Number of classes of each step, without "no object"."""

    @abstractmethod
    def grow(self, classes: int) -> None:
        """Append outputs for the classes of a new step, initialised like any linear layer."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """(…, C) to (…, K + 1) logits, "no object" last."""


class JointHead(nn.Linear, ClassHead):
    """One linear layer for all classes, as in Mask2Former (``class_embed``). It does not grow."""

    name = "class_embed"

    def __init__(self, channels: int, classes_per_step: Sequence[int]) -> None:
        if len(classes_per_step) != 1:
            raise ValueError(f"a joint class head has one step, not {len(classes_per_step)}; use the head 'steps'")
        super().__init__(channels, classes_per_step[0] + 1)

    @property
    def classes_per_step(self) -> list[int]:
        return [self.out_features - 1]

    def grow(self, classes: int) -> None:
        raise ValueError("a joint class head cannot grow; build the network with the head 'steps'")


class StepHeads(nn.ModuleList, ClassHead):
    """One linear layer for each step (``class_embeds``); "no object" is the last output of the first one.

    Source: BalConpas (ECCV 2024), released code.
    """

    name = "class_embeds"

    def __init__(self, channels: int, classes_per_step: Sequence[int]) -> None:
        base, *increments = classes_per_step
        super().__init__([nn.Linear(channels, base + 1)])
        for classes in increments:
            self.grow(classes)

    @property
    def classes_per_step(self) -> list[int]:
        base, *increments = (_linear(head).out_features for head in self)
        return [base - 1, *increments]

    def grow(self, classes: int) -> None:
        self.append(_like(self[0], classes))

    def forward(self, x: Tensor) -> Tensor:
        base, *increments = (head(x) for head in self)
        return torch.cat([base[..., :-1], *increments, base[..., -1:]], dim=-1)


class SeparateNoObjectHeads(ClassHead):
    """One linear layer for "no object" and one for each step (``class_embed.cls``).

    Source: CoMFormer (CVPR 2023), released code.
    """

    name = "class_embed"

    def __init__(self, channels: int, classes_per_step: Sequence[int]) -> None:
        super().__init__()
        self.cls = nn.ModuleList(nn.Linear(channels, classes) for classes in (1, *classes_per_step))

    @property
    def classes_per_step(self) -> list[int]:
        return [_linear(head).out_features for head in self.cls][1:]

    def grow(self, classes: int) -> None:
        self.cls.append(_like(self.cls[0], classes))

    def forward(self, x: Tensor) -> Tensor:
        no_object, *steps = (head(x) for head in self.cls)
        return torch.cat([*steps, no_object], dim=-1)


def _linear(layer: nn.Module) -> nn.Linear:
    assert isinstance(layer, nn.Linear)  # a ModuleList does not know the type of its modules
    return layer


def _like(layer: nn.Module, outputs: int) -> nn.Linear:
    """A fresh linear layer with the inputs, device and precision of another."""
    weight = _linear(layer).weight
    return nn.Linear(weight.shape[1], outputs, device=weight.device, dtype=weight.dtype)


CLASS_HEADS: dict[ClassHeadName, type[ClassHead]] = {
    "joint": JointHead,
    "steps": StepHeads,
    "separate-no-object": SeparateNoObjectHeads,
}
"""Class heads by the recipe's name."""
