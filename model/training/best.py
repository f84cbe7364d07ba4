"""Keeping the best of the networks that a step evaluates while it trains, instead of the last one.

The released SSUL does so, on the images that it is then tested on: its figures are those of the best moment of each step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from model.training.checkpoint import to_cpu
from model.training.random_states import random_states, set_random_states


class BestNetwork:
    """The best of the networks seen so far, by a score.

    Args:
        score: of a network in evaluation mode, higher is better; None where there is nothing to score.
        every: iterations between two scores.
    """

    def __init__(self, score: Callable[[nn.Module], float | None], every: int) -> None:
        self.score = score
        self.every = every
        self.iteration = 0
        """Iteration after which the best network was seen."""
        self.value = -math.inf
        self._weights: dict[str, Any] | None = None
        self._scored = 0

    def due(self, done: int, iterations: int) -> bool:
        """Whether a network is to be scored: every so often, and after the last iteration."""
        return 0 < done != self._scored and (done % self.every == 0 or done == iterations)

    def consider(self, network: nn.Module, done: int, device: torch.device) -> None:
        """Score a network; a copy is kept if it is better than all before. It is left in evaluation mode.

        What training draws afterwards does not depend on it.
        """
        drawn = random_states(device)
        network.eval()
        value = self.score(network)
        set_random_states(drawn, device)
        self._scored = done
        if self._weights is None or (value is not None and value > self.value):
            self.value = -math.inf if value is None else value
            self.iteration = done
            self._weights = {name: tensor.clone() for name, tensor in to_cpu(network.state_dict()).items()}

    def restore(self, network: nn.Module) -> None:
        """Give a network the best weights."""
        assert self._weights is not None  # the last iteration was scored
        network.load_state_dict(self._weights)

    @property
    def facts(self) -> dict[str, Any]:
        """For the record of the training."""
        return {"iteration": self.iteration, "score": None if math.isinf(self.value) else self.value}

    def state_dict(self) -> dict[str, Any]:
        """Plain values and tensors to continue from."""
        return {"iteration": self.iteration, "value": self.value, "weights": self._weights, "scored": self._scored}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where :meth:`state_dict` was taken."""
        self.iteration, self.value = state["iteration"], state["value"]
        self._weights, self._scored = state["weights"], state["scored"]
