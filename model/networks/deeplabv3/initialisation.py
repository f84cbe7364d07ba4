"""Initialisation of a new step's classifier from what the network knows."""

from __future__ import annotations

import math

import torch
from torch import nn


@torch.no_grad()
def initialise_from_background(classifiers: nn.ModuleList) -> None:
    r"""Spread the old background probability evenly over the background and the new classes, in place.

    .. math:: w_k = w_0,\quad b_k = b_0' = b_0 - \log(N_t + 1)

    The old network saw the new classes as background; after this initialisation the new one still does, in sum: the
    softmax of every old class is what it was.

    Args:
        classifiers: 1x1 convolutions of the steps; channel 0 of the first is the background, the last is to be
            initialised with its N_t classes.

    Raises:
        ValueError: if there is no earlier classifier.

    Source: MiB (2020), eq. 9-10 and its released code; also used by PLOP.
    """
    base, new = _base_and_new(classifiers)
    assert base.bias is not None and new.bias is not None
    bias = base.bias[0] - math.log(new.out_channels + 1)
    new.weight.copy_(base.weight[:1].expand_as(new.weight))
    new.bias.copy_(bias.expand_as(new.bias))
    base.bias[0] = bias


@torch.no_grad()
def initialise_from_auxiliary(classifiers: nn.ModuleList) -> None:
    """Start every class of the newest classifier as the auxiliary one, which has only ever seen negatives, in place.

    Args:
        classifiers: 1x1 convolutions: the auxiliary one with one channel, then one per step; the last is to be initialised.

    Raises:
        ValueError: if the first has more than one channel.

    Source: DKD (Baek et al., NeurIPS 2022) and its released code.
    """
    auxiliary, new = classifiers[0], classifiers[-1]
    assert isinstance(auxiliary, nn.Conv2d) and isinstance(new, nn.Conv2d)
    assert auxiliary.bias is not None and new.bias is not None
    if auxiliary.out_channels != 1:
        raise ValueError(f"an auxiliary classifier has one channel, but the first one has {auxiliary.out_channels}")
    new.weight.copy_(auxiliary.weight.expand_as(new.weight))
    new.bias.copy_(auxiliary.bias.expand_as(new.bias))


@torch.no_grad()
def initialise_weights_from_background(classifiers: nn.ModuleList) -> None:
    r"""Give every new class the weights of the background, :math:`w_k = w_0`, in place; no bias changes.

    Args:
        classifiers: as for :func:`initialise_from_background`.

    Raises:
        ValueError: if there is no earlier classifier.

    Source: RCIL (2022), released code, whose rule for the biases does not apply to PASCAL VOC and ADE20K.
    """
    base, new = _base_and_new(classifiers)
    new.weight.copy_(base.weight[:1].expand_as(new.weight))


def _base_and_new(classifiers: nn.ModuleList) -> tuple[nn.Conv2d, nn.Conv2d]:
    if len(classifiers) < 2:
        raise ValueError("there is no earlier classifier whose background could initialise the new one")
    base, new = classifiers[0], classifiers[-1]
    assert isinstance(base, nn.Conv2d) and isinstance(new, nn.Conv2d)
    return base, new
