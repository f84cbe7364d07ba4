"""Activations and normalisation layers that the per-pixel networks are built from.

The released networks come in two kinds: batch normalisation followed by ReLU, and in-place activated batch normalisation
(InPlaceABN), which is batch normalisation followed by a leaky ReLU of slope 0.01 and differs only in how it saves memory
and in scaling with ``|γ| + ε``. Segue builds the second kind from ordinary layers, and converts γ when weights are loaded
(:mod:`model.networks.deeplabv3.released_weights`).
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import nn

Activation = Literal["relu", "leaky-relu", "identity"]

LEAKY_SLOPE = 0.01
"""Slope of InPlaceABN's leaky ReLU for negative values."""


def activation(name: Activation, inplace: bool = True) -> nn.Module:
    """An activation layer.

    Args:
        name: ``identity`` gives the linear head of SDR's single-GPU scripts.
        inplace: overwrite the input, which must not be needed elsewhere then.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "relu":
        return nn.ReLU(inplace=inplace)
    if name == "leaky-relu":
        return nn.LeakyReLU(LEAKY_SLOPE, inplace=inplace)
    if name == "identity":
        return nn.Identity()
    raise ValueError(f"unknown activation '{name}', expected one of {', '.join(get_args(Activation))}")


def xavier_gain(name: Activation) -> float:
    """Gain of the Xavier initialisation before an activation."""
    if name == "leaky-relu":
        return nn.init.calculate_gain("leaky_relu", LEAKY_SLOPE)
    return nn.init.calculate_gain("relu" if name == "relu" else "linear")


def is_normalisation(module: nn.Module) -> bool:
    """Whether a module is batch normalisation of any kind, synchronised or not."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm)


def normalisations(module: nn.Module) -> tuple[nn.Module, ...]:
    """Every normalisation layer in a module, in the order of definition: what "frozen BN" freezes."""
    return tuple(child for child in module.modules() if is_normalisation(child))


def dropouts(module: nn.Module) -> tuple[nn.Module, ...]:
    """Every dropout layer in a module."""
    return tuple(child for child in module.modules() if isinstance(child, nn.Dropout))
