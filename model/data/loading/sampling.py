"""Which item is at which place of which batch: a pure function of (seed, epoch, index).

Batches are numbered through all epochs, so training can start at any of them, with any number of loading processes or
devices, and see the same data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

ReplayMixing = Literal["concatenate", "half-batch"]

_ORDER, _MEMORY, _PLACES = 0, 1, 2  # purposes that one seed serves


class SamplingError(ValueError):
    """Items from which no batch can be made."""


@dataclass(frozen=True)
class Draw:
    """One place of a batch.

    Attributes:
        item: number of the item; exemplars come after the step's own images.
        epoch: which pass over the data.
        place: number of the place within the epoch.
    """

    item: int
    epoch: int
    place: int


@dataclass(frozen=True)
class BatchPlan:
    """The batches of a training run.

    With ``concatenate`` exemplars are items like all others. With ``half-batch`` (SSUL-M) they replace half of every batch
    at random places, and an epoch is a pass over the step's own images only. An incomplete last batch is dropped; if there
    are fewer items than a batch has places, the one batch of an epoch is filled up with further passes.

    Attributes:
        images: number of the step's own images.
        exemplars: number of images in the memory.
        batch_size: places per batch, over all devices.
        seed: of the experiment.
        replay_mixing: how exemplars enter the batches.
        kinds: of each item, exemplars last; the items of a batch are of one kind, except in those at the end of an epoch that
            are made of what is left over. None: batches are mixed. Without effect on ``half-batch``.
    """

    images: int
    exemplars: int
    batch_size: int
    seed: int
    replay_mixing: ReplayMixing = "concatenate"
    kinds: tuple[bool, ...] | None = None

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise SamplingError(f"a batch of {self.batch_size} images makes no sense")
        if self.images < 1:
            raise SamplingError("there are no images to train on")
        if self.replay_mixing not in ("concatenate", "half-batch"):
            raise SamplingError(f"replay mixing '{self.replay_mixing}' does not exist (concatenate, half-batch)")
        if self.replay_mixing == "half-batch" and self.exemplars and self.batch_size < 2:
            raise SamplingError("a batch of 1 has no half for exemplars")

    @property
    def shuffled(self) -> int:
        """Items that an epoch passes over."""
        return self.images + (self.exemplars if self.replay_mixing == "concatenate" else 0)

    @property
    def batches_per_epoch(self) -> int:
        """At least 1."""
        return max(1, self.shuffled // self.batch_size)

    def batch(self, number: int) -> tuple[Draw, ...]:
        """The draws of one batch; ``number`` counts through all epochs."""
        epoch, position = divmod(number, self.batches_per_epoch)
        first = position * self.batch_size
        if self.kinds is not None and self.replay_mixing == "concatenate" and self.shuffled >= self.batch_size:
            order = _sorted_permutation(self.seed, (_ORDER, epoch, 0), self.kinds, self.batch_size)
            items = order[first : first + self.batch_size].tolist()
        else:
            items = [_endless(self.seed, (_ORDER, epoch), self.shuffled, first + k) for k in range(self.batch_size)]
        if self.replay_mixing == "half-batch" and self.exemplars:
            half = self.batch_size // 2
            places = _generator(self.seed, (_PLACES, number)).permutation(self.batch_size)[:half]
            for k, place in enumerate(places.tolist()):
                items[place] = self.images + _endless(self.seed, (_MEMORY,), self.exemplars, number * half + k)
        return tuple(Draw(item, epoch, first + k) for k, item in enumerate(items))

    def batches(self, start: int, stop: int, rank: int = 0, world_size: int = 1) -> Iterator[tuple[Draw, ...]]:
        """Batches ``start`` … ``stop - 1``, of each the part of one of several devices.

        Raises:
            SamplingError: if a batch cannot be shared out evenly.
        """
        if self.batch_size % world_size:
            raise SamplingError(f"a batch of {self.batch_size} cannot be shared by {world_size} devices")
        share = self.batch_size // world_size
        for number in range(start, stop):
            yield self.batch(number)[rank * share : (rank + 1) * share]


def _generator(seed: int, key: tuple[int, ...]) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _endless(seed: int, key: tuple[int, ...], size: int, position: int) -> int:
    """Entry of an endless sequence of permutations of 0…size−1."""
    cycle, place = divmod(position, size)
    return int(_permutation(seed, (*key, cycle), size)[place])


@lru_cache(maxsize=4)
def _permutation(seed: int, key: tuple[int, ...], size: int) -> np.ndarray:
    return _generator(seed, key).permutation(size)


@lru_cache(maxsize=2)
def _sorted_permutation(seed: int, key: tuple[int, ...], kinds: tuple[bool, ...], batch_size: int) -> np.ndarray:
    """A permutation whose whole batches are of one kind, in the order in which their last item was drawn."""
    order = _permutation(seed, key, len(kinds))
    kind = np.array(kinds)[order]
    batches: list[tuple[int, np.ndarray]] = []
    rest = []
    for wanted in (False, True):
        places = np.flatnonzero(kind == wanted)
        whole = len(places) // batch_size * batch_size
        batches += [(int(part[-1]), part) for part in places[:whole].reshape(-1, batch_size)]
        rest.append(places[whole:])
    found = [part for _, part in sorted(batches, key=lambda one: one[0])]
    return order[np.concatenate([*found, *rest])]
