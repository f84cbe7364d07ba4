"""EWF: both rules of fusion on recorded states, and several steps of growth, training and fusion through the method's hooks."""

from __future__ import annotations

import re
from copy import deepcopy
from functools import cache

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases, load
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.ewf import EWF
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.weight_fusion import balanced_weight, fuse
from model.scenario import Step
from model.training.optimiser import build_optimiser, freeze_untrained, set_learning_rates
from model.training.schedule import Poly

GROUP = "g_ewf"
PRECISIONS: dict[torch.dtype, tuple[str, Precision]] = {
    torch.float64: ("", "float64"),
    torch.float32: ("_f32", "float32"),
}


@cache
def is_training(case: Case) -> bool:
    return "classes_per_step" in load(case).config


def only(wanted: bool) -> list[object]:
    """Whole trainings, or fusions alone."""
    found = [p for p in cases(GROUP) if not isinstance(p.values[0], Case) or is_training(p.values[0]) == wanted]
    assert found
    return found


def state_of(recording: Recording, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
    names = [key for key in recording.arrays if key.startswith(prefix) and not key.endswith("_f32")]
    return {name.removeprefix(prefix): recording.tensor(name, dtype) for name in names}


@pytest.mark.parametrize("case", only(False))
def test_fusion(case: Case) -> None:
    recording = load(case)
    config = recording.config
    weight = balanced_weight(config["n_new_classes"], config["n_old_classes_with_background"])
    assert_close(weight, recording.arrays["alpha"], GROUP, "float64", "weight")
    for dtype, (suffix, precision) in PRECISIONS.items():
        old, new = state_of(recording, "old.", dtype), state_of(recording, "new.", dtype)
        for prefix, share in (("fused.", None), ("threshold.", config["threshold_fraction"])):
            fused = fuse(old, new, weight, share)
            recorded = {
                k: v for k, v in recording.arrays.items() if re.fullmatch(rf"{re.escape(prefix)}.+(?<!_f32)", k)
            }
            assert {f"{prefix}{key}" for key in fused} == set(recorded)
            for key, value in fused.items():
                name = f"{prefix}{key}{suffix}"
                if name in recording.arrays:
                    assert_close(value, recording.arrays[name], GROUP, precision, name)


class Tiny(nn.Module):
    """The network of the recording: two layers and a classifier a step."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()

        def layer(name: str, **arguments: int) -> nn.ModuleDict:
            out, inside, *kernel = state[f"{name}.conv.weight"].shape
            conv = nn.Conv2d(inside, out, tuple(kernel), bias=False, **arguments)
            return nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(out)})

        self.body, self.head = layer("body", stride=2, padding=1), layer("head")
        self.cls = nn.ModuleList()
        self.grow(state["cls.0.weight"].shape[0])
        self.to(state["cls.0.weight"].dtype)
        self.take(state)

    def take(self, state: dict[str, Tensor]) -> None:
        missing, unexpected = self.load_state_dict(state, strict=False)
        assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)

    def grow(self, new_classes: int) -> None:
        reference = self.head["conv"].weight
        self.cls.append(nn.Conv2d(reference.shape[0], new_classes, 1).to(reference))

    def forward(self, images: Tensor) -> PixelOutputs:
        x = images
        for layer in (self.body, self.head):
            x = layer["bn"](layer["conv"](x)).relu()
        coarse = torch.cat([classifier(x) for classifier in self.cls], dim=1)
        logits = functional.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
        return PixelOutputs(logits, x, x, coarse)


def method_of(recording: Recording) -> EWF:
    config = recording.config
    return EWF(
        distillation_weight=float(config["loss_kd"]),
        unbiased_classification=bool(config["unbiased_ce"]),
        unbiased_distillation=bool(config["unbiased_kd"]),
        background_initialisation=bool(config["init_balanced"]),
        freeze_old_classifiers=bool(config["fix_pre_cls"]),
    )


class Comparison:
    """Compares with what was recorded in a precision, and counts."""

    def __init__(self, recording: Recording, dtype: torch.dtype) -> None:
        self.recording, self.dtype, self.compared = recording, dtype, 0

    def __call__(self, name: str, value: Tensor | float) -> None:
        suffix, precision = PRECISIONS[self.dtype]
        if name + suffix in self.recording.arrays:
            assert_close(value, self.recording.arrays[name + suffix], GROUP, precision, name + suffix)
            self.compared += 1

    def states(self, prefix: str, network: Tiny) -> None:
        ours = {k: v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
        recorded = state_of(self.recording, prefix, torch.float64)
        assert not recorded or set(ours) == set(recorded)
        for key, value in ours.items():
            self(prefix + key, value)


@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("case", only(True))
def test_steps(case: Case, dtype: torch.dtype) -> None:
    recording = load(case)
    config, method = recording.config, method_of(recording)
    compare = Comparison(recording, dtype)
    classes = config["classes_per_step"]  # of the base step with the background
    ids = tuple(range(1, sum(classes)))
    network, old_model = Tiny(state_of(recording, "s0.start.", dtype)), None
    for index, new in enumerate(classes):
        past = 0 if index == 0 else sum(classes[:index]) - 1
        step = Step(index, ids[:past], ids[past : past + new - (index == 0)])
        if index:
            old_model = deepcopy(network).eval().requires_grad_(False)
            method.grow(network, step)
            if not config["init_balanced"]:
                network.take(state_of(recording, f"s{index}.start.", dtype))
        compare.states(f"s{index}.start.", network)
        train(method, network, old_model, step, recording, compare)
        compare.states(f"s{index}.end.", network)
        if index:
            compare(f"s{index}.alpha", balanced_weight(new, 1 + past))
            method.after_step(step_context(step, network.eval(), old_model=old_model))
            compare.states(f"s{index}.fused.", network)
    suffix = PRECISIONS[dtype][0]
    inputs = re.compile(r"s\d+\.i\d+\.(image|labels)")
    wanted = [k for k in recording.arrays if k.endswith("_f32") == bool(suffix) and not inputs.match(k)]
    assert compare.compared == len(wanted), sorted(wanted)


def train(
    method: EWF, network: Tiny, old_model: Tiny | None, step: Step, recording: Recording, compare: Comparison
) -> None:
    config, index = recording.config, step.index
    trainable = method.trainable(network, step)
    freeze_untrained(network, trainable.groups)
    rate = config["lr_later"] if index else config["lr_step0"]
    optimiser = build_optimiser(
        "sgd",
        trainable.groups,
        learning_rate=rate,
        weight_decay=config["weight_decay"],
        momentum=config["momentum"],
        nesterov=config["nesterov"],
    )
    schedule = Poly(
        config["iterations_per_step"]
    )  # the rate falls as in every released script; the settings do not say so
    network.train()
    network.zero_grad(set_to_none=True)
    for i in range(schedule.iterations):
        images = recording.tensor(f"s{index}.i{i}.image", compare.dtype)
        labels = recording.tensor(f"s{index}.i{i}.labels")
        batch = PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))
        context = step_context(step, network, old_model=old_model)
        with torch.no_grad():
            old_outputs = None if old_model is None else old_model(images)
        outputs = method.forward(context, batch, old_outputs)
        targets = method.targets(context, batch, old_outputs)
        loss = sum(method.losses(context, batch, outputs, old_outputs, targets).values())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        compare(f"s{index}.i{i}.loss", loss)
        if i == 0:
            recorded = {k.removeprefix(f"s{index}.grad.") for k in recording.arrays if k.startswith(f"s{index}.grad.")}
            moved = {name for name, parameter in network.named_parameters() if parameter.grad is not None}
            assert moved == {name.removesuffix("_f32") for name in recorded}
            for name, parameter in network.named_parameters():
                if parameter.grad is not None:
                    compare(f"s{index}.grad.{name}", parameter.grad)
        set_learning_rates(optimiser, schedule(i))
        optimiser.step()
