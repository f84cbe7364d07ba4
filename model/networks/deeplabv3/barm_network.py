"""DeepLabV3 with one branch per step and a background of residuals, as released with BARM (Zhang & Gao, ECCV 2024).

Pyramid pooling feeds a base branch and one more per step, each a 3x3 convolution with normalisation and a 1x1 classifier. The
first channel of the base step's classifier is the background, that of later ones a residual which is added to it:

    b = b_0 + Σ_{s≤t} min(r_s, 0)                      evaluation
    b = sg(b_0) + Σ_{s<t} sg(min(r_s, 0)) + r_t        training; sg stops the gradient

Outputs are the background and the classes in learning order: class k is channel k.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.losses.precision import at_least_single
from model.networks.deeplabv3.aspp import initialise_kaiming, unit
from model.networks.deeplabv3.growing import GrowingClassifier, GrowingDeepLabV3, upsampled
from model.networks.deeplabv3.outputs import PixelOutputs


@dataclass(frozen=True)
class BranchOutputs(PixelOutputs):
    """The outputs of every branch, before the backgrounds are combined.

    Attributes:
        heads: (B, 1 + N_s, h, w) of each step: background or residual, then the step's classes.
        branches: (B, C, h, w) of each step, what its classifier sees.
    """

    heads: tuple[Tensor, ...] = ()
    branches: tuple[Tensor, ...] = ()


def unified_logits(heads: Sequence[Tensor], training: bool) -> Tensor:
    """One background for all heads: (B, 1 + K, h, w), background first.

    In training the newest residual is neither clamped nor detached, and the background learns through it alone; in evaluation
    every residual is clamped from above at 0. A single head is returned unchanged.

    Args:
        heads: (B, 1 + N_s, h, w) of each step.
        training: which of the two formulas of this module applies.
    """
    base, *later = heads
    if not later:
        return base
    background = base[:, :1].detach() if training else base[:, :1]
    *older, newest = [head[:, :1] for head in later]
    for residual in older:
        clamped = residual.clamp(max=0)
        background = background + (clamped.detach() if training else clamped)
    background = background + (newest if training else newest.clamp(max=0))
    return torch.cat([background, *(head[:, 1:] for head in heads)], dim=1)


class BarmClassifier(GrowingClassifier):
    """Backbone features to the outputs of every branch."""

    def __init__(
        self, in_channels: int, channels: int, *, rates: Sequence[int], momentum: float, dropout: float
    ) -> None:
        super().__init__(in_channels, channels, rates=rates, momentum=momentum, dropout=dropout)
        self.head_pre = self._branch()
        self.ear = nn.ModuleList()
        self.head = nn.ModuleList()

    @property
    def branches(self) -> tuple[nn.Sequential, ...]:
        """The base branch, then one per step."""
        return (self.head_pre, *self.ear)

    def _branch(self) -> nn.Sequential:
        branch = nn.Sequential(*unit(self.channels, self.channels, 3, momentum=self.momentum))
        initialise_kaiming(branch)
        return branch

    def add_step(self, new_classes: int) -> None:
        """Append a step's classifier, and its branch unless it is the base step."""
        reference = next(self.aspp.parameters())
        if len(self.head):
            self.ear.append(self._branch().to(reference))
        head = nn.Conv2d(self.channels, 1 + new_classes, 1)
        initialise_kaiming(head)
        self.head.append(head.to(reference))

    def forward(self, features: Tensor) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """(B, C, h, w) to what the branches see, their features, and the outputs of their classifiers."""
        x = self.aspp(features)
        branches = tuple(branch(x) for branch in self.branches)
        return x, branches, tuple(head(seen) for head, seen in zip(self.head, branches, strict=True))


class BarmDeepLabV3(GrowingDeepLabV3):
    """ResNet backbone, pyramid pooling and branches."""

    classifier_type = BarmClassifier
    classifier: BarmClassifier

    def forward(self, images: Tensor) -> BranchOutputs:
        """Images (B, 3, H, W) to :class:`BranchOutputs` with logits at their size."""
        features = self.backbone(images)
        x, branches, heads = self.classifier(features.body)
        heads = tuple(at_least_single(head) for head in heads)
        coarse = unified_logits(heads, self.training)
        return BranchOutputs(upsampled(coarse, images), x, features.body, coarse, heads=heads, branches=branches)


@torch.no_grad()
def copy_base_branch(classifier: BarmClassifier, statistics: bool) -> None:
    """Start the newest branch as the base branch: convolution, and weight and bias of the normalisation.

    Args:
        classifier: with at least one step after the base step.
        statistics: copy the running statistics as well. As released they stay at mean 0 and variance 1, and as normalisation is
            frozen, they do for good.

    Raises:
        ValueError: if there is only the base branch.

    Source: released code of BARM.
    """
    if not len(classifier.ear):
        raise ValueError("there is only the base branch: no step has been added after the base step")
    target = classifier.ear[-1].state_dict()
    for key, value in classifier.head_pre.state_dict().items():
        if statistics or not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            target[key].copy_(value)
