"""One iteration of every method makes the host wait for the device ten times at most, on a device that counts.

A wait costs what the device could have done meanwhile, and nobody sees it on a CPU: a new ``.item()``, boolean index or copy from
pageable memory fails here. ``python tests/support/host_waits.py METHOD`` prints the lines.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pytest
import torch
from host_waits import FIRST_INCREMENTS, iteration_waits
from method_jobs import Workshop
from torch import Tensor
from torch.utils.data._utils.pin_memory import pin_memory
from waiting_device import DEVICE, DeviceTensor, counted, onto_device

import ops.attention
from model.common.devices import sent
from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.data.loading.pixel_batch import PixelBatch
from model.losses.mask_pseudo_targets import old_predictions
from model.methods.pixel.mib import MiB
from model.methods.registry import METHODS
from model.training.loop import TrainingError

MOST = 10
MIB = FIRST_INCREMENTS["semantic", "mib"]


@pytest.fixture(autouse=True)
def operator_on_any_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The device that counts has no compiled kernels, which ``SEGUE_OPS=compiled`` refuses."""
    monkeypatch.setattr(ops.attention, "IMPLEMENTATION", replace(ops.attention.IMPLEMENTATION, choice="auto"))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("waits"))


def test_no_method_is_left_out() -> None:
    looked_at = {(training.spec["recipe"]["family"], method) for (_, method), training in FIRST_INCREMENTS.items()}
    own_base = {("per-pixel", "finetuning-observed")}  # a base step that other methods continue from
    missing = {(family, name) for family, rows in METHODS.items() for name in rows} - looked_at
    assert missing <= own_base


@pytest.mark.parametrize(("task", "method"), FIRST_INCREMENTS)
def test_an_iteration_makes_the_host_wait_ten_times_at_most(workshop: Workshop, task: str, method: str) -> None:
    waits = iteration_waits(workshop, FIRST_INCREMENTS[task, method])
    assert waits.total() <= MOST, waits.most_common()


def read_a_value(logits: Tensor) -> None:
    logits.mean().item()


def branch_on_a_value(logits: Tensor) -> None:
    if logits.mean() > 1e9:
        raise AssertionError


def index_by_flags(logits: Tensor) -> None:
    logits[logits > 0].sum()


def send_from_pageable_memory(logits: Tensor) -> None:
    torch.zeros(3).to(logits.device, non_blocking=True)


def send_and_wait(logits: Tensor) -> None:
    torch.zeros(3).pin_memory().to(logits.device)


def index_by_the_host(logits: Tensor) -> None:
    logits[torch.tensor([0])].sum()


def make_a_tensor_of_numbers(logits: Tensor) -> None:
    logits.new_tensor([1.0, 2.0])


def copy_back(logits: Tensor) -> None:
    logits.detach().cpu()


def work_on_the_device(logits: Tensor) -> None:
    sent(torch.arange(3), logits.device)
    torch.where(logits > 0, logits, 0.0).sum().sqrt()
    logits[:, torch.zeros(2, dtype=torch.int64, device=logits.device)].to("cpu", non_blocking=True)


@pytest.mark.parametrize(
    ("added", "more"),
    [
        (read_a_value, 1),
        (branch_on_a_value, 1),
        (index_by_flags, 1),
        (send_from_pageable_memory, 1),
        (send_and_wait, 1),
        (index_by_the_host, 1),
        (make_a_tensor_of_numbers, 1),
        (copy_back, 1),
        (work_on_the_device, 0),
    ],
)
def test_what_is_added_to_a_loss_is_counted(
    monkeypatch: pytest.MonkeyPatch, workshop: Workshop, added: Callable[[Tensor], None], more: int
) -> None:
    before, losses = iteration_waits(workshop, MIB), MiB.losses

    def changed(self: MiB, context: Any, batch: Any, outputs: Any, *rest: Any) -> Any:
        added(outputs.logits)
        return losses(self, context, batch, outputs, *rest)

    monkeypatch.setattr(MiB, "losses", changed)
    assert iteration_waits(workshop, MIB).total() == before.total() + more


def test_a_wait_is_noted_with_the_line_that_asks_for_it() -> None:
    with counted() as counting:
        masks = torch.rand(1, 3, 4, 4).to(DEVICE)
        counting.waits.clear()
        old_predictions(torch.randn(1, 3, 5).pin_memory().to(DEVICE, non_blocking=True), masks, (4, 4))
    (line,) = counting.waits
    assert line.startswith("model/losses/mask_pseudo_targets.py:") and counting.waits[line] == 1


def test_tensors_of_two_devices_do_not_mix() -> None:
    with counted(), pytest.raises(RuntimeError, match="same device"):
        torch.zeros(3, device=DEVICE) + torch.zeros(3)


def test_a_step_on_the_counting_device_is_the_step_of_the_cpu() -> None:
    weights = []
    for there in (False, True):
        torch.manual_seed(0)
        layer, images = torch.nn.Linear(4, 2), torch.randn(3, 4)
        with counted():
            if there:
                layer, images = onto_device(layer), images.to(DEVICE)
            optimiser = torch.optim.AdamW(layer.parameters(), fused=True)
            layer(images).square().mean().backward()
            optimiser.step()
            weights.append(layer.weight.detach().cpu())
    assert torch.equal(*weights)


# ------------------------------------------------------------------------------------------- numbers that are read late


def run_there(small: Any, method: Any, **options: Any) -> Any:
    network = small.Network([2])
    with counted():
        network = onto_device(network)
        try:
            return small.loop(network, method, device=DEVICE, **options)
        finally:
            small.after = network.body.weight.detach().cpu()


def test_every_iteration_is_reported_although_it_is_read_late(small) -> None:
    torch.manual_seed(0)
    expected = small.loop(small.Network([2]), small.Method())
    torch.manual_seed(0)
    notes = run_there(small, small.Method())
    assert notes.seen == expected.seen


def test_a_bad_update_is_not_made_although_it_is_noticed_late(small) -> None:
    class Broken(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            terms = super().losses(context, batch, outputs, old_outputs, targets)
            return {**terms, "attraction": outputs.logits.mean() * (math.inf if "image8" in batch.names else 1.0)}

    states = []

    def keep(done: int, settle: Callable[[], object]) -> None:
        states.append(done)

    with pytest.raises(TrainingError, match=r"iteration 3 of 9.*attraction = .*images: image8"):
        run_there(small, Broken(), iterations=9, after_iteration=keep)
    assert states == [1, 2, 3] and small.after.isfinite().all()


def test_nothing_is_kept_of_a_bad_iteration(small) -> None:
    class Broken(small.Method):
        def losses(self, context, batch, outputs, old_outputs, targets):
            return {"root": (outputs.logits - outputs.logits.detach()).abs().sum().sqrt()}

    def keep(done: int, settle: Callable[[], object]) -> None:
        settle()
        raise AssertionError("would be kept")

    with pytest.raises(TrainingError, match=r"iteration 1 of 3.*gradient norm is (nan|inf)"):
        run_there(small, Broken(), after_iteration=keep)


# -------------------------------------------------------------------------------------------------- page-locked batches


def tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if is_dataclass(value):
        return [tensor for field in fields(value) for tensor in tensors(getattr(value, field.name))]
    return [tensor for item in value for tensor in tensors(item)] if isinstance(value, tuple | list) else []


FLAGS = torch.zeros(1, dtype=torch.bool)
TARGETS = MaskTargets(torch.tensor([1]), torch.ones(1, 4, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    "batch",
    [
        MaskBatch(torch.zeros(1, 3, 4, 4), (TARGETS,), ((4, 4),), ("a",), FLAGS, leaked=True),
        PixelBatch(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), ("a",), FLAGS),
        PixelBatch(torch.zeros(1, 3, 4, 4), torch.zeros(1, 4, 4, dtype=torch.int64), ("a",), FLAGS, FLAGS),
    ],
)
def test_the_loader_locks_every_tensor_of_a_batch(monkeypatch: pytest.MonkeyPatch, batch: Any) -> None:
    """Through the function that the data loader's thread calls, which leaves alone what has no ``pin_memory``."""
    locked: list[int] = []

    def lock(tensor: Tensor, *_: Any) -> Tensor:
        copy = tensor.clone()
        locked.append(id(copy))
        return copy

    monkeypatch.setattr(Tensor, "pin_memory", lock)
    pinned = pin_memory(batch)
    assert [id(tensor) for tensor in tensors(pinned)] == locked and len(locked) == len(tensors(batch))
    assert type(pinned) is type(batch) and pinned.names == batch.names
    for mine, plain in zip(tensors(pinned), tensors(batch), strict=True):
        assert torch.equal(mine, plain)


def test_counting_ends_with_the_context() -> None:
    with counted() as counting:
        torch.zeros(1).to(DEVICE)
    assert not isinstance(torch.zeros(1, device=DEVICE), DeviceTensor)
    assert counting.waits == Counter({"elsewhere": 1})
