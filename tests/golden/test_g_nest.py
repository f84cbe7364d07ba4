"""NeST: reactions of old classifiers, every pre-tuning iteration, the transfer, the first iteration of the host."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from contexts import alone, step_context
from golden import Case, Precision, Recording, assert_close, cases, load
from small_networks import PlainNetwork
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.nest import NeST
from model.methods.pixel.nest_classifiers import pretune
from model.methods.registry import build
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

GROUP = "g_nest"
TUNED = {"M": "matrices", "v": "shares", "b": "biases", "m0": "background", "s0": "scale"}
RUNS: tuple[tuple[torch.dtype, str, Precision], ...] = (
    (torch.float64, "", "float64"),
    (torch.float32, "_f32", "float32"),
)


def method_of(recording: Recording) -> NeST:
    host = recording.config["host"]
    assert host["method"] == "MiB" and host["unbiased_ce"] and host["unbiased_kd"]
    values = {
        "distillation_weight": host["loss_kd"],
        "freeze_past_classifiers": host["fix_pre_cls"],
        "pretuning_epochs": recording.config["pretune_epochs"],
        "grid": recording.config["grid"],
    }
    method = build("nest", values)
    assert isinstance(method, NeST)
    return method


class Preparation:
    """A network of a recorded old step, grown for the next one."""

    def __init__(self, recording: Recording, dtype: torch.dtype) -> None:
        self.recording, self.dtype = recording, dtype
        first, *others = recording.config["classes_per_step"]
        counts = [first - 1, *others]  # the recorded classes of the first step contain the background
        ids = tuple(range(1, 1 + sum(counts)))
        self.step = Step(len(others), ids[: -counts[-1]], ids[-counts[-1] :])
        old = {
            key.removeprefix("old."): recording.tensor(key, dtype) for key in recording.arrays if key.startswith("old.")
        }
        self.network = PlainNetwork(old, counts[:-1]).to(dtype)
        self.network.load_recorded(old)
        self.old_model = frozen_copy(self.network)
        self.method = method_of(recording)
        self.method.grow(self.network, self.step)
        with torch.no_grad():
            self.network.cls[-1].weight.copy_(recording.tensor("fresh.new_weight"))
            self.network.cls[-1].bias.fill_(float(recording.arrays["fresh.bias0"]))

    def batches(self, name: str) -> list[PixelBatch]:
        found = []
        while f"{name}{len(found)}.image" in self.recording.arrays:
            labels = self.recording.tensor(f"{name}{len(found)}.labels")
            images = self.recording.tensor(f"{name}{len(found)}.image", self.dtype)
            memory = torch.zeros(len(labels), dtype=torch.bool)
            found.append(PixelBatch(images, labels, ("",) * len(labels), memory))
        return found

    def context(self, batches: list[PixelBatch]) -> Any:
        return step_context(self.step, self.network, old_model=self.old_model, batches=batches)


@pytest.mark.parametrize("case", cases(GROUP))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_whole_preparation(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    config, prepared = recording.config, Preparation(recording, dtype)

    def agree(value: Tensor, name: str, always: bool = False) -> None:
        if always or name + suffix in recording.arrays:
            assert_close(value, recording.arrays[name + suffix], GROUP, precision, name)

    prepared.network.eval()
    classifiers, _ = prepared.method.start(prepared.context(prepared.batches("sel")))
    agree(classifiers.matrices, "stat.S", True)
    agree(classifiers.shares, "init.v", True)
    batches = prepared.batches("batch")
    assert len(batches) == config["pretune_iterations_per_epoch"]
    losses = pretune(
        classifiers,
        prepared.network,
        lambda: batches,
        epochs=config["pretune_epochs"],
        batches_per_epoch=len(batches),
        learning_rate=config["pretune_lr"],
        momentum=config["momentum"],
        weight_decay=config["weight_decay"],
        reduce=alone,
    )
    count = 0
    for number, loss in enumerate(losses):
        count += 1
        agree(loss, f"p{number}.loss", True)
        for recorded, ours in TUNED.items():
            agree(getattr(classifiers, ours), f"p{number}.{recorded}", dtype == torch.float64)
            if number == 0:
                agree(getattr(classifiers, ours).grad, f"p0.grad.{recorded}", dtype == torch.float64)
    assert count == sum(key.endswith(f".loss{suffix}") and key.startswith("p") for key in recording.arrays)
    for key, value in prepared.network.recorded_state().items():
        agree(value, f"pretuned.{key}")

    classifiers.write(prepared.network)
    agree(prepared.network.cls[-1].weight, "transfer.new_weight", True)
    agree(prepared.network.cls[-1].bias, "transfer.new_bias", True)
    agree(prepared.network.cls[0].weight, "transfer.cls0_weight", True)
    first_iteration_of_the_host(prepared, batches[0], suffix, precision)


def first_iteration_of_the_host(prepared: Preparation, batch: PixelBatch, suffix: str, precision: Precision) -> None:
    recording, method, network = prepared.recording, prepared.method, prepared.network
    freeze_untrained(network, method.trainable(network, prepared.step).groups)
    network.zero_grad()
    network.train()
    context = prepared.context([batch])
    old_outputs = prepared.old_model(batch.images)
    outputs = method.forward(context, batch, old_outputs)
    targets = method.targets(context, batch, old_outputs)
    total = sum(method.losses(context, batch, outputs, old_outputs, targets).values())
    assert isinstance(total, Tensor)
    total.backward()
    assert_close(total, recording.arrays[f"host.loss{suffix}"], GROUP, precision, "loss of the host")
    if precision == "float64":
        prefix, found = "host.grad.", network.recorded_gradients()
        expected = {key.removeprefix(prefix) for key in recording.arrays if key.startswith(prefix)}
        assert set(found) == expected, "which parameters receive a gradient"
        for key, value in found.items():
            assert_close(value, recording.arrays[prefix + key], GROUP, precision, f"gradient of {key}")


@pytest.mark.parametrize("case", cases(GROUP))
def test_the_hook_does_all_of_it(case: Case) -> None:
    """Reactions and pre-tuning on the same images, as in training: the pieces above in one call."""
    recording = load(case)
    together, apart = Preparation(recording, torch.float64), Preparation(recording, torch.float64)
    batches = together.batches("batch")
    together.network.eval()
    context = together.context(batches)
    together.method.before_step(context)
    assert not together.network.training
    classifiers, count = apart.method.start(apart.context(batches))
    for _ in pretune(
        classifiers,
        apart.network,
        lambda: batches,
        epochs=recording.config["pretune_epochs"],
        batches_per_epoch=count,
        learning_rate=context.learning_rate,
        reduce=alone,
    ):
        pass
    classifiers.write(apart.network)
    ours, theirs = together.network.state_dict(), apart.network.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
