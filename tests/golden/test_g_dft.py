"""DFT and DFT*: whole steps of a small network with any of the three switches."""

from __future__ import annotations

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases, load
from small_networks import PlainNetwork
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.dft import DFTStar
from model.methods.registry import build
from model.scenario import Step
from model.training.loop import set_training_mode
from model.training.optimiser import build_optimiser, freeze_untrained, set_learning_rates
from model.training.schedule import Poly

GROUP = "g_dft"


def method_of(recording: Recording) -> DFTStar:
    switches = recording.config["switches"]
    names = {"freeze_features": "fix_backbone", "freeze_past_classifiers": "fix_pre_cls", "preallocate": "pre_allocate"}
    assert set(switches) == set(names.values())
    method = build("dft-star", {ours: switches[recorded] for ours, recorded in names.items()})
    assert isinstance(method, DFTStar)
    return method


def steps_of(recording: Recording, method: DFTStar) -> list[Step]:
    """The recorded class numbers contain the background in the first step."""
    first, *later = recording.config["classes_per_step"]
    counts = [first - 1, *later]
    ids = tuple(range(1, 1 + sum(counts)))
    ends = [sum(counts[: index + 1]) for index in range(len(counts))]
    future = [tuple(later) if method.needs_future and index == 0 else () for index in range(len(counts))]
    return [
        Step(index, ids[: end - counts[index]], ids[end - counts[index] : end], future[index])
        for index, end in enumerate(ends)
    ]


RUNS: tuple[tuple[torch.dtype, str, Precision], ...] = (
    (torch.float64, "", "float64"),
    (torch.float32, "_f32", "float32"),
)


def state_of(recording: Recording, prefix: str, suffix: str = "") -> dict[str, Tensor]:
    names = [key for key in recording.arrays if key.startswith(prefix) and key.endswith("_f32") == bool(suffix)]
    return {key.removeprefix(prefix).removesuffix(suffix): recording.tensor(key) for key in names}


def batch_of(recording: Recording, name: str, dtype: torch.dtype) -> PixelBatch:
    labels = recording.tensor(f"{name}.labels")
    images = recording.tensor(f"{name}.image", dtype)
    return PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))


@pytest.mark.parametrize("case", cases(GROUP))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_every_step(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    """After the first step's weights nothing is read from the recording but batches and random new classifiers."""
    recording = load(case)
    method, network = method_of(recording), None
    for step in steps_of(recording, method):
        name = f"s{step.index}"
        start = state_of(recording, f"{name}.start.")
        if network is None:
            network = PlainNetwork(start, [len(step.current), *step.future]).to(dtype)
            network.load_recorded(start)
        else:
            before = network.recorded_state()
            method.grow(network, step)
            added = network.recorded_state().keys() - before.keys()
            assert start.keys() - before.keys() == added, "which classifiers are new"
            network.load_recorded({key: start[key] for key in added})
        for key, value in start.items():
            assert_close(network.recorded_state()[key], value, GROUP, precision, f"{name}: start of {key}")
        train(recording, method, network, step, suffix, precision)
        end = network.recorded_state()
        for key, value in state_of(recording, f"{name}.end.", suffix).items():
            assert_close(end[key], value, GROUP, precision, f"{name}: end of {key}")
        if precision == "float64":
            assert end.keys() == state_of(recording, f"{name}.end.").keys()
            decide(recording, method, network, step)


def decide(recording: Recording, method: DFTStar, network: PlainNetwork, step: Step) -> None:
    name = f"s{step.index}"
    network.eval()
    with torch.no_grad():
        outputs = network(batch_of(recording, f"{name}.i0", torch.float64).images)
    assert_close(outputs.logits, recording.arrays[f"{name}.eval_logits"], GROUP, "float64", f"{name}: logits")
    decided, recorded = method.predict(outputs, step), recording.tensor(f"{name}.prediction")
    learnt = recorded <= len(step.seen)
    assert torch.equal(decided[learnt], recorded[learnt])
    assert decided.max() <= len(step.seen), "a class that nobody has learnt yet"


def train(
    recording: Recording, method: DFTStar, network: PlainNetwork, step: Step, suffix: str, precision: Precision
) -> None:
    config, name = recording.config, f"s{step.index}"
    dtype = next(network.parameters()).dtype
    trainable = method.trainable(network, step)
    count = freeze_untrained(network, trainable.groups)
    assert count == int(recording.arrays[f"{name}.trainable"])
    iterations = config["iterations_per_step"]
    optimiser = build_optimiser(
        "sgd",
        trainable.groups,
        learning_rate=config["lr_later" if step.index else "lr_step0"],
        weight_decay=config["weight_decay"],
        momentum=config["momentum"],
        nesterov=config["nesterov"],
    )
    schedule = Poly(iterations)
    set_training_mode(network, trainable.evaluation_modules)
    for i in range(iterations):
        set_learning_rates(optimiser, schedule(i))
        batch = batch_of(recording, f"{name}.i{i}", dtype)
        context = step_context(step, network, iteration=i, iterations=iterations)
        network.zero_grad()
        outputs = method.forward(context, batch, None)
        total = sum(method.losses(context, batch, outputs, None, method.targets(context, batch, None)).values())
        total.backward()
        assert_close(total, recording.arrays[f"{name}.i{i}.loss{suffix}"], GROUP, precision, f"{name}: loss {i}")
        if i == 0 and precision == "float64":
            recorded, found = state_of(recording, f"{name}.grad."), network.recorded_gradients()
            assert found.keys() == recorded.keys(), "which parameters receive a gradient"
            for key, value in recorded.items():
                assert_close(found[key], value, GROUP, "float64", f"{name}: gradient of {key}")
        optimiser.step()
