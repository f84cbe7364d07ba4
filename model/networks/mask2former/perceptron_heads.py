"""Class heads of ECLIPSE: what a new class starts from is "no object".

One head for "no object" and one for each step, emitted in learning order with "no object" last. Names are those of the public
ECLIPSE checkpoints (``class_embed.cls``).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.networks.mask2former.attention import Perceptron
from model.networks.mask2former.class_heads import ClassHead


class PerceptronHeads(ClassHead):
    """One perceptron, or linear layer, for "no object" and one for each step.

    Args:
        channels: of the queries' embeddings.
        classes_per_step: classes of every step so far.
        deep: three linear layers with ReLU between; a single one if False.
    """

    name = "class_embed"

    def __init__(self, channels: int, classes_per_step: Sequence[int], deep: bool = True) -> None:
        super().__init__()
        base, *increments = classes_per_step
        hidden = (channels, channels) if deep else ()
        self.cls = nn.ModuleList(
            Perceptron(channels, *hidden, outputs) if deep else nn.Linear(channels, outputs) for outputs in (1, base)
        )
        for classes in increments:
            self.grow(classes)

    @property
    def no_object(self) -> nn.Module:
        """The head of "no object"; it gives (…, 1)."""
        return self.cls[0]

    @property
    def newest(self) -> nn.Module:
        """The head of the last step's classes."""
        return self.cls[-1]

    @property
    def classes_per_step(self) -> list[int]:
        return [_last_layer(head).out_features for head in self.cls][1:]

    @torch.no_grad()
    def grow(self, classes: int) -> None:
        """Append a copy of "no object" whose only row is repeated for each class."""
        head = copy.deepcopy(self.no_object)
        old = _last_layer(head)
        new = nn.Linear(old.in_features, classes, device=old.weight.device, dtype=old.weight.dtype)
        new.weight.copy_(old.weight.expand(classes, -1))
        new.bias.copy_(old.bias.expand(classes))
        if isinstance(head, Perceptron):
            head.layers[-1] = new
            self.cls.append(head)
        else:
            self.cls.append(new)

    def forward(self, x: Tensor) -> Tensor:
        no_object, *steps = (head(x) for head in self.cls)
        return torch.cat([*steps, no_object], dim=-1)


def _last_layer(head: nn.Module) -> nn.Linear:
    layer = head.layers[-1] if isinstance(head, Perceptron) else head
    assert isinstance(layer, nn.Linear)  # neither container knows the type of its modules
    return layer
