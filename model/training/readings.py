"""The numbers that training reads from the device: loss terms and the norm of the gradient, one copy an iteration.

The copy is started as soon as the numbers exist. Where another device than the CPU trains, it is read an iteration later, while
the device works on the next one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


class TrainingError(ValueError):
    """Training that cannot continue; the message names step, iteration and images."""


@dataclass(frozen=True)
class Pass:
    """One forward and backward pass: names of the terms, their values still on the device, and the images."""

    terms: tuple[str, ...]
    values: Tensor
    images: tuple[str, ...]


@dataclass(frozen=True)
class Values:
    """Numbers of an iteration on their way to the host.

    Attributes:
        good: () bool, on the device: whether all of them are finite.
        host: all of them in one tensor, valid when ``arrived``.
        arrived: when the copy is done; None where there is nothing to wait for.
    """

    good: Tensor
    host: Tensor
    arrived: torch.cuda.Event | None

    def read(self) -> list[float]:
        """The numbers, after waiting for them."""
        if self.arrived is not None:
            self.arrived.synchronize()
        found: list[float] = self.host.tolist()
        return found


def on_the_way(values: Sequence[Tensor]) -> Values:
    """Start to copy numbers to the host, page-locked there, behind all that the device has to do before."""
    on_device = torch.cat([value.reshape(-1).to(values[0]) for value in values])
    host = on_device.to("cpu", non_blocking=True)
    arrived = None
    if on_device.is_cuda:
        arrived = torch.cuda.Event()
        arrived.record()
    return Values(on_device.isfinite().all(), host, arrived)


@dataclass(frozen=True)
class Iteration:
    """An iteration whose numbers are read later, so that the device has work while the host waits for them."""

    number: int
    where: str
    learning_rate: float
    passes: Sequence[Pass]
    values: Values

    def means(self) -> dict[str, float]:
        """Mean of every term over the passes, and their ``total``."""
        found, position = self.values.read(), 0
        means: dict[str, float] = {}
        for one in self.passes:
            for name in one.terms:
                means[name] = means.get(name, 0.0) + found[position] / len(self.passes)
                position += 1
        means["total"] = sum(means.values())
        return means

    def checked_norm(self) -> float:
        """Norm of the gradient.

        Raises:
            TrainingError: if a term is not finite.
        """
        if not all(math.isfinite(value) for value in self.means().values()):
            raise TrainingError(f"{self.where}: the loss is not finite: {_non_finite_terms(self.passes)}")
        return self.values.read()[-1]


def _non_finite_terms(passes: Sequence[Pass]) -> str:
    """The message about the first pass with a term that is not finite."""
    for p in passes:
        values = dict(zip(p.terms, p.values.tolist(), strict=True))
        bad = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if bad:
            good = [f"{name} = {value:.6g}" for name, value in values.items() if math.isfinite(value)]
            others = f" (other terms: {', '.join(good)})" if good else ""
            return (
                f"{', '.join(bad)}{others}; images: {', '.join(p.images)}. "
                "Look at these images and their labels, or lower the learning rate"
            )
    return "the sum of finite terms overflows; lower the weights of the terms"
