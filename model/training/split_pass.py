"""A batch divided among processes, among smaller forward passes, or both, with the result of one pass in one process.

Only the network works in parts. Its outputs are put together to those of the whole batch in every process, and the hooks after
``forward`` see them with the whole batch: ``targets`` and ``losses`` normalise, count, draw and remember exactly as in one
process, whatever a method does there, and no method has to know of processes. From the gradient of the loss with respect to the
outputs each process takes that of its own images and passes it back through the network; the gradients of parameters are added
up over processes. A parameter that a loss reads directly, such as a classifier applied to remembered features, gets the same
gradient in every process; each contributes an equal part of it.

Passes of fewer images (``micro_batch``) do the same one after another: each is computed once without keeping what the backward
pass needs, and again when the gradient of its outputs is known. That costs one more forward pass, and memory for the network
grows with these passes instead of the batch (Gao et al., "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", 2021).

Random numbers are those of one process: all processes draw alike, for the whole batch, and take what belongs to their images.
Normalisation over the batch is over all processes (:mod:`model.training.whole_batch_layers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.methods.base import Context, Method, Part
from model.training.packing import Kind, kinds_of, packed, packed_length, unpacked
from model.training.passes import Precision, Terms, autocast, loss_terms, outputs_of_old_model
from model.training.processes import Processes
from model.training.trees import images_of, joined_batches, replaced, tensors_of, with_tensors


class SplitError(ValueError):
    """A batch that cannot be divided without changing the result; the message says why and what to do."""


@dataclass(frozen=True)
class _Passed:
    """Outputs of some images: the whole structure once, and the tensors in it."""

    structure: Any
    tensors: list[Tensor]

    @classmethod
    def of(cls, outputs: Any, images: int) -> _Passed:
        tensors = tensors_of(outputs)
        for tensor in tensors:
            if not tensor.dim() or len(tensor) != images:
                raise SplitError(
                    f"the network's outputs hold a tensor of shape {tuple(tensor.shape)} for {images} images; a training on "
                    "several processes, or with micro_batch, needs one row for each image in all of them: train with one process"
                )
        return cls(outputs, tensors)


class SplitPass:
    """Passes batches in parts, see the top of this module.

    Args:
        parameters: that train.
        processes: that share every batch; None: this one alone.
        micro_batch: images of one forward pass at most; None: all that this process has.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], processes: Processes | None, micro_batch: int | None = None
    ) -> None:
        self.processes = processes
        self.part: Part | None = None
        """What is passing the network at present."""
        self._parameters = list(parameters)
        self._micro_batch = micro_batch

    def __call__(
        self,
        context: Context,
        method: Method[Any, Any],
        batch: Any,
        precision: Precision,
        scaled: Callable[[Tensor], Tensor],
    ) -> tuple[Terms, tuple[str, ...]]:
        own, whole = (batch, batch) if self.processes is None else whole_batch(self.processes, batch)
        first = 0 if self.processes is None else self.processes.rank * len(own)
        size = self._micro_batch or len(own)
        parts = [Part(first + begin, min(size, len(own) - begin), len(whole)) for begin in range(0, len(own), size)]

        state = context.state
        if len(parts) > 1 and type(method).forward is not Method.forward:
            # what the forward pass may read, as it is before the losses change it
            state = replaced(state, torch.Tensor.clone)

        def passed(part: Part) -> tuple[_Passed, _Passed | None]:
            rows = slice(part.first - first, part.first - first + part.images)
            images = own if len(parts) == 1 else images_of(own, rows)
            with self._passing(part), autocast(context.device, precision):
                old = outputs_of_old_model(context, images)
                outputs = method.forward(replace(context, part=part, state=state), images, old)
            return _Passed.of(outputs, part.images), None if old is None else _Passed.of(old, part.images)

        before = _random_states(context.device)
        if len(parts) == 1:
            found = [passed(parts[0])]
            kept = found[0][0].tensors
        else:
            with torch.no_grad():
                found = [_from(before, context.device, passed, part) for part in parts]
            kept = []
        leaves = self._whole([outputs.tensors for outputs, _ in found])
        for leaf, one in zip(leaves, found[0][0].tensors, strict=True):
            leaf.requires_grad_(one.is_floating_point() and (not kept or one.requires_grad))
        outputs = with_tensors(found[0][0].structure, list(leaves))
        old_outputs = None
        if (old := found[0][1]) is not None:
            old_outputs = with_tensors(old.structure, self._whole([one.tensors for _, one in found if one is not None]))
        del found, old
        terms, gradients = self._loss(context, method, whole, outputs, old_outputs, leaves, precision, scaled)
        del outputs, old_outputs, leaves
        after = _random_states(context.device)
        for part in parts:
            rows = slice(part.first, part.first + part.images)
            tensors = kept if len(parts) == 1 else _from(before, context.device, passed, part)[0].tensors
            pairs = [
                (tensor, gradient[rows])
                for tensor, gradient in zip(tensors, gradients, strict=True)
                if gradient is not None and tensor.requires_grad
            ]
            torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])
        _set_random_states(after, context.device)
        return terms, whole.names

    def _loss(
        self,
        context: Context,
        method: Method[Any, Any],
        whole: Any,
        outputs: Any,
        old_outputs: Any,
        leaves: Sequence[Tensor],
        precision: Precision,
        scaled: Callable[[Tensor], Tensor],
    ) -> tuple[Terms, list[Tensor | None]]:
        """The terms of the whole batch, and the gradient of the outputs; parameters that they read get theirs."""
        with autocast(context.device, precision):
            terms = loss_terms(context, method, whole, outputs, old_outputs)
            total = reduce(torch.add, terms.values())
        wanted = [leaf for leaf in leaves if leaf.requires_grad]
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        found = torch.autograd.grad(scaled(total), [*wanted, *trained], allow_unused=True)
        for parameter, gradient in zip(trained, found[len(wanted) :], strict=True):
            if gradient is not None:
                share = gradient if self.processes is None else gradient / self.processes.count
                parameter.grad = share if parameter.grad is None else parameter.grad + share
        of_wanted = iter(found[: len(wanted)])
        return (
            {name: term.detach() for name, term in terms.items()},
            [next(of_wanted) if leaf.requires_grad else None for leaf in leaves],
        )

    def _whole(self, parts: list[list[Tensor]]) -> list[Tensor]:
        """Of each tensor the rows of all parts of all processes, in their order."""
        own = [
            same[0].detach() if len(same) == 1 else torch.cat([part.detach() for part in same])
            for same in zip(*parts, strict=True)
        ]
        return own if self.processes is None else self.processes.rows(own)

    @contextmanager
    def _passing(self, part: Part) -> Iterator[None]:
        self.part = part
        try:
            yield
        finally:
            self.part = None


def whole_batch(processes: Processes, own: Any) -> tuple[Any, Any]:
    """This process's share of a batch, padded like the others', and the batch of all processes."""
    tensors = tensors_of(own)
    told = processes.told((tuple(own.images.shape[-2:]), _described(own, tensors)))
    height, width = (max(size[axis] for size, _ in told) for axis in (0, 1))
    if any(size != (height, width) for size, _ in told):
        own = own.padded(height, width)
        tensors = tensors_of(own)
        told = processes.told(((height, width), _described(own, tensors)))
    data = packed(tensors)
    longest = max(packed_length(kinds) for _, (_, kinds) in told)
    filled = F.pad(data, (0, longest - len(data)))
    shares = [
        with_tensors(plain, unpacked(share, kinds))
        for share, (_, (plain, kinds)) in zip(processes.bytes(filled), told, strict=True)
    ]
    return own, joined_batches(shares)


def _described(batch: Any, tensors: Sequence[Tensor]) -> tuple[Any, list[Kind]]:
    """A batch with empty tensors, to be sent as a plain value, and type and shape of those that were in it."""
    return with_tensors(batch, [torch.empty(0) for _ in tensors]), kinds_of(tensors)


States = tuple[Tensor, Tensor | None]


def _random_states(device: torch.device) -> States:
    return torch.get_rng_state(), torch.cuda.get_rng_state(device) if device.type == "cuda" else None


def _set_random_states(states: States, device: torch.device) -> None:
    torch.set_rng_state(states[0])
    if states[1] is not None:
        torch.cuda.set_rng_state(states[1], device)


def _from(states: States, device: torch.device, function: Callable[[Part], Any], part: Part) -> Any:
    """Call a function that draws from the generators as they were."""
    _set_random_states(states, device)
    return function(part)
