"""The processes of one training: how they meet, and what they exchange.

Each of them holds the whole network and loads its share of every batch. What passes between them is described in
:mod:`model.training.split_pass`. Two groups connect them: tensors go through NCCL between GPUs and through gloo between CPUs,
plain values (names, sizes, requests to stop) through gloo in either case, so that no process waits for a device to learn them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn

import torch
from torch import Tensor, distributed, nn
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors

from model.common.process_numbers import LOST, MEETING, ProcessNumbers
from model.training.packing import kinds_of, packed, unpacked

TIMEOUT = timedelta(hours=2)
"""For one exchange. Whoever starts the processes notices that one of them has died; this is for what nobody notices."""
SMALL = 1 << 20
"""Bytes up to which tensors are exchanged together: each exchange has its price, and so has a copy of large ones."""
_STARTED = "started"


class Lost(Exception):
    """Another process of this training is gone; it, or whoever started it, says why."""


class MeetingError(ValueError):
    """An address at which the first process cannot wait for the others; the message names it."""


@contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # a connection that was closed; torch has no class of its own for gloo's
        raise Lost(str(error)) from error


@dataclass(frozen=True)
class Processes:
    """This process among all that train one network; ``count`` is at least 2.

    Attributes:
        rank: number of this process, from 0.
        count: of all processes.
        values: the group for plain values.
    """

    rank: int
    count: int
    values: Any

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def told(self, value: Any) -> list[Any]:
        """A plain value of every process."""
        found: list[Any] = [None] * self.count
        with _exchange():
            distributed.all_gather_object(found, value, group=self.values)
        return found

    def from_first(self, value: Any) -> Any:
        """A plain value, or tensors on the host, of the first process; the others' own is not read."""
        held = [value]
        with _exchange():
            distributed.broadcast_object_list(held, src=0, group=self.values)
        return held[0]

    def largest(self, values: Sequence[int]) -> list[int]:
        """The largest of each number over the processes."""
        held = torch.tensor(list(values), dtype=torch.int64)
        with _exchange():
            distributed.all_reduce(held, distributed.ReduceOp.MAX, group=self.values)
        found: list[int] = held.tolist()
        return found

    def wait(self) -> None:
        """Until all processes have come here."""
        with _exchange():
            distributed.barrier(group=self.values)

    def rows(self, own: Sequence[Tensor]) -> list[Tensor]:
        """Tensors (b, …), of equal shapes in all processes, one behind the other: (count · b, …); no gradient flows."""
        found: dict[int, Tensor] = {}
        small = [place for place, tensor in enumerate(own) if tensor.numel() * tensor.element_size() <= SMALL]
        rest = [[place] for place in range(len(own)) if place not in small]
        for places in [small, *rest] if small else rest:
            tensors = [own[place].detach() for place in places]
            kinds = kinds_of(tensors)
            shares = [unpacked(data, kinds) for data in self.bytes(packed(tensors))]
            found |= {place: torch.cat(same) for place, same in zip(places, zip(*shares, strict=True), strict=True)}
        return [found[place] for place in range(len(own))]

    def bytes(self, own: Tensor) -> list[Tensor]:
        """A uint8 tensor of equal length of every process."""
        parts = [torch.empty_like(own) for _ in range(self.count)]
        with _exchange():
            distributed.all_gather(parts, own)
        return parts

    def add(self, tensor: Tensor) -> Tensor:
        """Add up a tensor of every process, in place."""
        with _exchange():
            distributed.all_reduce(tensor)
        return tensor

    def add_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of every process. A parameter that had no part in any of them remains without."""
        present = [parameter.grad is not None for parameter in parameters]
        anywhere = self.largest([int(found) for found in present])
        gradients: dict[torch.dtype, list[Tensor]] = {}
        for parameter, found in zip(parameters, anywhere, strict=True):
            if found:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.setdefault(parameter.grad.dtype, []).append(parameter.grad)
        for group in gradients.values():
            flat = self.add(_flatten_dense_tensors(group))
            for gradient, value in zip(group, _unflatten_dense_tensors(flat, group), strict=True):
                gradient.copy_(value)

    def like_first(self, tensors: Sequence[Tensor]) -> None:
        """Give tensors the values that they have in the first process, in place."""
        for tensor in tensors:
            held = tensor.detach().contiguous()
            with _exchange():
                if held.numel():
                    group = self.values if held.device.type == "cpu" else None
                    distributed.broadcast(held.view(-1).view(torch.uint8), src=0, group=group)
            tensor.detach().copy_(held)


def meeting_numbers(environment: Mapping[str, str]) -> ProcessNumbers | None:
    """This process among several, as whoever started them says; None where it is alone."""
    numbers = ProcessNumbers.of(environment)
    return numbers if numbers is not None and numbers.count > 1 else None


@contextmanager
def joined(
    numbers: ProcessNumbers, device: torch.device, prepare: Callable[[], bool] | None = None
) -> Iterator[Processes | None]:
    """Meet the other processes.

    Args:
        numbers: of this process.
        device: where it trains; of a GPU this process has one of its own.
        prepare: called by the first process before the others go on, who wait for it; whether there is anything to do.

    Yields:
        The processes; None if there is nothing to do.
    """
    store = _meeting(numbers)
    if numbers.rank == 0:
        needed = prepare is None or prepare()
        store.set(_STARTED, "train" if needed else "nothing to do")
    else:
        needed = _answer(store) == b"train"
    if not needed:
        yield None
        return
    backend = "nccl" if device.type == "cuda" else "gloo"
    with _exchange():
        distributed.init_process_group(
            backend, store=store, rank=numbers.rank, world_size=numbers.count, timeout=TIMEOUT
        )
        values = distributed.new_group(backend="gloo", timeout=TIMEOUT)
    processes = Processes(numbers.rank, numbers.count, values)
    yield processes
    processes.wait()  # not reached after an error: the others may be gone
    distributed.destroy_process_group()


def _meeting(numbers: ProcessNumbers) -> Any:
    """Where the processes meet: a file that whoever started them names, or the address of the first one, as torchrun says it."""
    where = f"file://{os.environ[MEETING]}" if MEETING in os.environ else "env://"
    try:
        store, _, _ = next(distributed.rendezvous(where, numbers.rank, numbers.count, timeout=TIMEOUT))
    except distributed.DistNetworkError as error:
        if numbers.rank > 0:
            raise Lost(str(error)) from error
        address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        reason = str(error).splitlines()[0]
        raise MeetingError(f"the processes of this training cannot meet at {address}: {reason}; run it again") from None
    return store


def _answer(store: Any) -> bytes:
    """What the first process says; it may have to wait for another workflow first."""
    while True:
        try:
            store.wait([_STARTED], timedelta(seconds=1))  # not longer: a request to stop is heard in between
        except distributed.DistNetworkError as error:
            raise Lost(str(error)) from error
        except RuntimeError:
            continue
        answer: bytes = store.get(_STARTED)
        return answer


def leave() -> NoReturn:
    """End a process that has lost another one, without a word: that one's error is the message."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(LOST)
