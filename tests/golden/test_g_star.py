"""STAR: statistics of a step, the plan of what to replay, whole increments, and the two feature losses."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases_holding, load
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.losses.feature_constraints import old_class_consistency, similarity_aware_discrimination
from model.methods.base import State
from model.methods.pixel.star import STAR
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_star"
SETTINGS = {"overlap": "overlapped", "disjoint": "disjoint"}


class RecordedFeatures(nn.Module):
    """A network that answers with recorded features, whose classifiers are the recorded ones."""

    def __init__(self, recording: Recording, prefix: str, heads: int, features: Sequence[Tensor]) -> None:
        super().__init__()
        self.cls = nn.ModuleList()
        for number in range(heads):
            weight, bias = (recording.tensor(f"{prefix}.head{number}.{key}") for key in ("weight", "bias"))
            head = nn.Conv2d(weight.shape[1], weight.shape[0], 1)
            head.load_state_dict({"weight": weight, "bias": bias})
            self.cls.append(head)
        self.features = list(features)
        self.answered = 0

    def forward(self, images: Tensor) -> PixelOutputs:
        x = self.features[self.answered % len(self.features)]
        self.answered += 1
        coarse = torch.cat([head(x) for head in self.cls], dim=1)
        logits = functional.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
        return PixelOutputs(logits, x, x, coarse)


class RecordedDraws(STAR):
    """The method with recorded random numbers, in the order of the recording."""

    def use(self, recording: Recording) -> None:
        names = sorted(
            (k for k in recording.arrays if k.startswith("inc.randn")), key=lambda k: int(k[len("inc.randn") :])
        )
        object.__setattr__(self, "remaining", [recording.tensor(name) for name in names])

    def draw(self, features: Tensor) -> Callable[[Sequence[int]], Tensor]:
        def next_recorded(shape: Sequence[int]) -> Tensor:
            values = self.remaining.pop(0)
            assert tuple(values.shape) == tuple(shape)
            return values

        return next_recorded


def batches_of(recording: Recording, prefix: str) -> list[PixelBatch]:
    labels = [recording.tensor(key) for key in numbered(recording, f"{prefix}.labels")]
    return [
        PixelBatch(torch.zeros(len(y), 3, *y.shape[1:]), y, ("",) * len(y), torch.zeros(len(y), dtype=torch.bool))
        for y in labels
    ]


def numbered(recording: Recording, stem: str) -> list[str]:
    found = [key for key in recording.arrays if re.fullmatch(re.escape(stem) + r"\d+", key)]
    return sorted(found, key=lambda key: int(key.removeprefix(stem)))


def steps_of(recording: Recording) -> tuple[Step, Step]:
    old, new = recording.config["n_old_classes"], recording.config["n_new_classes"]
    ids = tuple(range(1, old + new + 1))
    return Step(0, (), ids[:old]), Step(1, ids[:old], ids[old:])


def method_of(recording: Recording) -> RecordedDraws:
    config = recording.config
    weights = {"consistency_weight": config["pkd"], "discrimination_weight": config["cont"]}
    return RecordedDraws(positive_weight=config["pos_weight"], **weights)


def finished_base_step(recording: Recording, method: STAR) -> State:
    features = [recording.tensor(key) for key in numbered(recording, "stat.features")]
    network = RecordedFeatures(recording, "old", 1, features)
    batches, (base, _) = batches_of(recording, "stat"), steps_of(recording)
    context = step_context(base, network, batches=batches, setting=SETTINGS[recording.config["setting"]])
    state = method.before_step(context)
    network.answered = 0
    return method.after_step(replace(context, state=state))


@pytest.mark.parametrize("case", cases_holding(GROUP, "stat.numbers"))
def test_statistics_of_a_base_step(case: Case) -> None:
    recording = load(case)
    state = finished_base_step(recording, method_of(recording))
    names = {"prototypes": "prototypes", "noise": "deviations", "norm_mean_std": "norms", "numbers": "numbers"}
    assert {f"stat.{name}" for name in names} == {k for k in recording.arrays if re.fullmatch(r"stat\.[a-z_]+", k)}
    for recorded, ours in names.items():
        assert_close(state[ours], recording.arrays[f"stat.{recorded}"], GROUP, "float32", recorded)


def stored(recording: Recording) -> State:
    names = {"prototypes": "prototypes", "deviations": "noise", "norms": "norm_mean_std", "numbers": "numbers"}
    return {ours: recording.tensor(f"stat.{recorded}") for ours, recorded in names.items()}


def planned_increment(recording: Recording, method: STAR) -> tuple[State, RecordedFeatures]:
    old_features = [recording.tensor(key) for key in numbered(recording, "inc.features_old")]
    old_model = RecordedFeatures(recording, "old", len(recording.config["heads"]) - 1, old_features)
    batches, (_, step) = batches_of(recording, "inc"), steps_of(recording)
    setting = SETTINGS[recording.config["setting"]]
    context = step_context(step, old_model=old_model, batches=batches, state=stored(recording), setting=setting)
    with torch.no_grad():
        state = method.before_step(context)
    old_model.answered = 0
    return state, old_model


@pytest.mark.parametrize("case", cases_holding(GROUP, "stat.numbers"))
def test_plan_of_an_increment(case: Case) -> None:
    recording = load(case)
    state, _ = planned_increment(recording, method_of(recording))
    assert state["replayed"] == recording.arrays["inc.per_iter_prev_number"].tolist()
    assert_close(state["background_ratio"], recording.arrays["inc.extra_bg_ratio"], GROUP, "float32", "ratio")
    assert_close(state["numbers"], recording.arrays["inc.total_numbers"], GROUP, "float32", "numbers")
    new = recording.arrays["inc.new_numbers"]
    assert state["numbers"][-(len(new) - 1) :].tolist() == new[1:].tolist()


@pytest.mark.parametrize("case", cases_holding(GROUP, "stat.numbers"))
def test_whole_increment(case: Case) -> None:
    """Every recorded iteration with its gradients; those of the classifiers add up over the iterations."""
    recording = load(case)
    method = method_of(recording)
    method.use(recording)
    state, old_model = planned_increment(recording, method)
    features = [recording.tensor(key).requires_grad_() for key in numbered(recording, "inc.features")]
    network = RecordedFeatures(recording, "cur", len(recording.config["heads"]), features)
    step = steps_of(recording)[1]
    terms = {"classification": "loss_mbce", "consistency": "loss_pkd", "discrimination": "loss_cont"}
    for i, batch in enumerate(batches_of(recording, "inc")):
        outputs = network(batch.images)
        with torch.no_grad():
            old_outputs = old_model(batch.images)
        context = step_context(step, network, state=state)
        targets = method.targets(context, batch, old_outputs)
        found = method.losses(context, batch, outputs, old_outputs, targets)
        total = sum(found.values())
        total.backward()
        for ours, recorded in terms.items():
            assert_close(
                found[ours], np.float32(recording.arrays[f"inc.{recorded}"][i]), GROUP, "float32", f"{ours} {i}"
            )
        assert_close(total, recording.arrays["inc.total"][i], GROUP, "float32", f"total {i}")
        assert_close(features[i].grad, recording.arrays[f"inc.grad.features{i}"], GROUP, "float32", f"features {i}")
    assert not method.remaining
    for name, parameter in network.cls.named_parameters():
        number, _, key = name.partition(".")
        gradient: Any = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert_close(gradient, recording.arrays[f"inc.grad.head{number}.{key}"], GROUP, "float32", f"head {name}")


@pytest.mark.parametrize("case", cases_holding(GROUP, "discriminative.value"))
def test_feature_losses(case: Case) -> None:
    recording = load(case)
    old, new = recording.config["n_old"], recording.config["n_new"]
    for dtype, suffix, precision in ((torch.float64, "", "float64"), (torch.float32, "_f32", "float32")):
        features = recording.tensor("features", dtype).requires_grad_()
        prototypes, old_features = (recording.tensor(key, dtype) for key in ("prev_prototypes", "features_old"))
        region, labels = recording.tensor("region", dtype)[:, 0], recording.tensor("labels")
        values = {
            "discriminative": similarity_aware_discrimination(
                features, labels, range(old + 1, old + new + 1), prototypes
            ),
            "consistency": old_class_consistency(features, old_features, region),
        }
        assert {f"{name}.value" for name in values} == {key for key in recording.arrays if key.endswith(".value")}
        for name, value in values.items():
            assert_close(value, recording.arrays[f"{name}.value{suffix}"], GROUP, precision, name)
            if dtype == torch.float64:
                (gradient,) = torch.autograd.grad(value, features)
                assert_close(
                    gradient, recording.arrays[f"{name}.grad.features"], GROUP, precision, f"gradient of {name}"
                )


def test_the_recorded_defects_are_the_defaults() -> None:
    assert build("star") == STAR(released_threshold=True, released_norms=True, released_deviations=True)
