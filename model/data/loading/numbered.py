"""Training batches that are numbered through all epochs, for both families.

What batch *n* holds depends on the plan's seed and on *n* alone: not on the number of workers, on where training was
interrupted, or on how many devices share a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
from torch.utils.data import DataLoader, Dataset

from model.data.loading.sampling import BatchPlan, Draw
from model.data.prepared.images import one_thread_before_fork

Batch = TypeVar("Batch")

_AUGMENTATION = 3  # spawn key apart from those of the sampling


def augmentation_generator(seed: int, draw: Draw) -> np.random.Generator:
    """The random stream that augments one place of one epoch."""
    key = (_AUGMENTATION, draw.epoch, draw.place)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@dataclass(frozen=True)
class NumberedLoader(Generic[Batch]):
    """Training batches, numbered through all epochs.

    Attributes:
        items: indexed by a :class:`~model.data.loading.sampling.Draw`.
        collate: samples of one batch to the batch.
        plan: which item is where.
        workers: loading processes; 0 loads in this process. Without effect on the batches.
        pin_memory: page-locked tensors, for CUDA.
        rank: which device this process feeds.
        world_size: number of devices that share a batch.
    """

    items: Dataset[Any]
    collate: Callable[[Sequence[Any]], Batch]
    plan: BatchPlan
    workers: int = 0
    pin_memory: bool = False
    rank: int = 0
    world_size: int = 1

    @property
    def batches_per_epoch(self) -> int:
        """Number of batches of one epoch, at least 1."""
        return self.plan.batches_per_epoch

    def __len__(self) -> int:
        return self.plan.batches_per_epoch

    def batches(self, start: int, stop: int) -> Iterator[Batch]:
        """Batches ``start`` … ``stop - 1``; worker processes live as long as the iteration, across epochs."""
        draws = _Draws(self.plan, start, stop, self.rank, self.world_size)
        return iter(load(self.items, self.collate, draws, self.workers, self.pin_memory))

    def __iter__(self) -> Iterator[Batch]:
        """One pass over the data: the batches of epoch 0."""
        return self.batches(0, self.plan.batches_per_epoch)


@dataclass(frozen=True)
class _Draws:
    """Batch sampler over a range of batch numbers."""

    plan: BatchPlan
    start: int
    stop: int
    rank: int
    world_size: int

    def __iter__(self) -> Iterator[list[Draw]]:
        return (list(draws) for draws in self.plan.batches(self.start, self.stop, self.rank, self.world_size))

    def __len__(self) -> int:
        return max(0, self.stop - self.start)


def load(
    items: Dataset[Any],
    collate: Callable[[Sequence[Any]], Batch],
    draws: Iterable[Sequence[Draw]],
    workers: int,
    pin_memory: bool,
) -> Iterable[Batch]:
    """Batches of the given draws, in their order.

    Raises:
        ItemError: while iterating, for an item that a loading process could not read; without loading processes the error of
            the item itself.
    """
    if workers:
        one_thread_before_fork()
    return _Batches(
        DataLoader(
            _Reported(items) if workers else items,
            batch_sampler=draws,  # type: ignore[arg-type]  # draws in place of indices, which the stubs do not foresee
            num_workers=workers,
            collate_fn=partial(_collate_reported, collate) if workers else collate,
            pin_memory=pin_memory,
        )
    )


class ItemError(ValueError):
    """The error of a worker process about an item that it could not read."""


@dataclass(frozen=True)
class _Problem:
    """An error on its way from a worker process: torch would pass on its traceback as the message."""

    message: str


@dataclass(frozen=True)
class _Reported(Dataset[Any]):
    """Items that become a :class:`_Problem` if they cannot be read."""

    items: Dataset[Any]

    def __getitem__(self, draw: Draw) -> Any:
        try:
            return self.items[draw]
        except ValueError as error:  # every error of ours about data is one
            return _Problem(str(error))


def _collate_reported(collate: Callable[[Sequence[Any]], Batch], samples: Sequence[Any]) -> Batch | _Problem:
    return next((sample for sample in samples if isinstance(sample, _Problem)), None) or collate(samples)


@dataclass(frozen=True)
class _Batches(Generic[Batch]):
    loader: DataLoader[Any]

    def __iter__(self) -> Iterator[Batch]:
        return _checked(iter(self.loader))  # processes start now, not when the first batch is asked for


def _checked(batches: Iterator[Any]) -> Iterator[Any]:
    for batch in batches:
        if isinstance(batch, _Problem):
            raise ItemError(batch.message)
        yield batch
