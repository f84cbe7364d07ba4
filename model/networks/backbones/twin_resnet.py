"""Residual networks whose 3x3 convolutions have a twin: the backbone of RCIL.

Zhang, Xiao, Liu, Chen & Cheng, "Representation Compensation Networks for Continual Semantic Segmentation" (RCIL), CVPR 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from model.networks.backbones.resnet import Block, ResNet
from model.networks.twins import MergedConv2d, Mixture, Twins, free_twin


class TwinBlock(Block):
    """A residual block in which ``conv<n>_new`` and ``bn<n>_new`` run parallel to each 3x3 convolution and normalisation."""

    def __init__(self, *arguments: Any, momentum: float, **options: Any) -> None:
        """Arguments as of :class:`model.networks.backbones.resnet.Block`."""
        super().__init__(*arguments, momentum=momentum, **options)
        self.places = ("2",) if self.bottleneck else ("1", "2")
        self.mixture = Mixture()
        for place in self.places:
            plain: nn.Conv2d = self.get_submodule(f"conv{place}")  # type: ignore[assignment]
            self.add_module(f"conv{place}", MergedConv2d(plain))
            self.add_module(f"conv{place}_new", free_twin(plain))
            self.add_module(f"bn{place}_new", nn.BatchNorm2d(plain.out_channels, momentum=momentum))

    @property
    def twins(self) -> tuple[Twins, ...]:
        """The pairs of branches."""

        def part(name: str) -> Any:
            return self.get_submodule(name)

        return tuple(
            Twins((part(f"conv{p}"),), part(f"bn{p}"), (part(f"conv{p}_new"),), part(f"bn{p}_new")) for p in self.places
        )

    def normalised(self, place: str, x: Tensor) -> Tensor:
        """Output of a convolution and its normalisation, mixed with that of its twin where there is one."""

        def branch(suffix: str) -> Tensor:
            out: Tensor = self.get_submodule(f"bn{place}{suffix}")(self.get_submodule(f"conv{place}{suffix}")(x))
            return out

        mixed: Tensor = self.mixture(branch(""), branch("_new")) if place in self.places else branch("")
        return mixed

    def sum(self, x: Tensor) -> Tensor:
        out = self.normalised("2", self.inner_activation(self.normalised("1", x)))
        if self.bottleneck:
            out = self.normalised("3", self.inner_activation(out))
        return out + (x if self.downsample is None else self.downsample(x))


class TwinResNet(ResNet):
    """A :class:`model.networks.backbones.resnet.ResNet` of twin blocks; both twins start alike, stages are kept activated."""

    block = TwinBlock
    keep_activated = True

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Arguments as of :class:`model.networks.backbones.resnet.ResNet`."""
        super().__init__(*arguments, **options)
        for pair in self.twins:
            pair.start_alike()

    @property
    def twins(self) -> tuple[Twins, ...]:
        """The pairs of branches of all blocks, in the order of the network."""
        return tuple(pair for module in self.modules() if isinstance(module, TwinBlock) for pair in module.twins)

    def with_twins(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weights of a plain network, completed: each twin has those of its convolution and normalisation, biases are zero."""
        filled = dict(state)
        for name, module in self.named_modules():
            if isinstance(module, MergedConv2d):
                filled.setdefault(f"{name}.bias", torch.zeros(module.out_channels))
        for key in self.state_dict():
            if key not in filled and (plain := key.replace("_new.", ".")) in state:
                filled[key] = state[plain]
        return filled
