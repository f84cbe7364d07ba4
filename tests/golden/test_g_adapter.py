"""Adapter: the three terms alone, and whole increments with counts, replay, gradients, adaptation and stored statistics."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases, load
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.losses.feature_constraints import old_class_consistency, similarity_aware_discrimination
from model.losses.uncertainty import certainty, uncertainty_constraint, undecided
from model.methods.base import State
from model.methods.pixel.adapter import Adapter
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_adapter"
SETTINGS = {"overlap": "overlapped", "overlapped": "overlapped", "disjoint": "disjoint"}
RULES = {"voc": "adapter", "ade": "star"}
STORED = {
    "prototypes": "prototypes",
    "deviations": "noise",
    "norms": "norm_mean_std",
    "numbers": "numbers",
    "current_numbers": "current_numbers",
}
RUNS: tuple[tuple[torch.dtype, str, Precision], ...] = (
    (torch.float64, "", "float64"),
    (torch.float32, "_f32", "float32"),
)


def steps(whole: bool) -> list[object]:
    """Cases that record whole increments, or the others: told by their content."""
    found = []
    for case in cases(GROUP):
        recorded = case.values[0]
        if recorded is None or ("prev.prototypes" in load(recorded).arrays) == whole:
            found.append(case)
    return found


@pytest.mark.parametrize("case", steps(False))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_terms_alone(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    old, new = recording.config["n_old_classes"], recording.config["n_new_classes"]
    logits, features = (recording.tensor(key, dtype).requires_grad_() for key in ("logits", "features"))
    labels, old_features = recording.tensor("labels"), recording.tensor("features_old", dtype)
    region, prototypes = recording.tensor("region", dtype)[:, 0], recording.tensor("prev_prototypes", dtype)
    offset = Adapter.consistency_offset
    terms = {
        "uac": (uncertainty_constraint(logits, labels), "logits", logits),
        "cpd": (
            similarity_aware_discrimination(features, labels, range(old + 1, old + new + 1), prototypes),
            "features",
            features,
        ),
        "ocfm": (old_class_consistency(features, old_features, region, offset), "features", features),
        "empty.ocfm": (old_class_consistency(features, old_features, torch.zeros_like(region), offset), None, features),
    }
    assert {f"{name}.value" for name in terms} == {key for key in recording.arrays if key.endswith(".value")}
    for name, (value, what, leaf) in terms.items():
        if (key := f"{name}.value{suffix}") in recording.arrays:
            assert_close(value, recording.arrays[key], GROUP, precision, name)
        if what is not None and (key := f"{name}.grad.{what}{suffix}") in recording.arrays:
            (gradient,) = torch.autograd.grad(value, leaf)
            assert_close(gradient, recording.arrays[key], GROUP, precision, f"gradient of {name}")
    if dtype == torch.float64:
        scores = logits.detach().sigmoid()
        assert_close(certainty(scores)[:, None], recording.arrays["certainty"], GROUP, precision, "certainty")
        assert torch.equal(undecided(scores, labels), recording.tensor("uac.mask") > 0)


class RecordedFeatures(nn.Module):
    """A network that answers with recorded features, whose classifiers are the recorded ones."""

    def __init__(self, recording: Recording, prefix: str, features: Sequence[Tensor]) -> None:
        super().__init__()
        self.cls = nn.ModuleList()
        while f"{prefix}.head{len(self.cls)}.weight" in recording.arrays:
            weight, bias = (
                recording.tensor(f"{prefix}.head{len(self.cls)}.{key}").to(features[0]) for key in ("weight", "bias")
            )
            head = nn.Conv2d(weight.shape[1], weight.shape[0], 1).to(features[0])
            head.load_state_dict({"weight": weight[:, :, None, None], "bias": bias})
            self.cls.append(head)
        self.features, self.answered = list(features), 0

    def forward(self, images: Tensor) -> PixelOutputs:
        x = self.features[self.answered % len(self.features)]
        self.answered += 1
        coarse = torch.cat([head(x) for head in self.cls], dim=1)
        logits = functional.interpolate(coarse, images.shape[2:], mode="bilinear", align_corners=False)
        return PixelOutputs(logits, x, x, coarse)


class RecordedDraws(Adapter):
    """The method with recorded random numbers, in the order of the recording."""

    def use(self, recording: Recording, dtype: torch.dtype) -> None:
        names = sorted((k for k in recording.arrays if re.fullmatch(r"randn\d+", k)), key=lambda k: int(k[5:]))
        object.__setattr__(self, "remaining", [recording.tensor(name, dtype) for name in names])

    def draw(self, features: Tensor) -> Callable[[Sequence[int]], Tensor]:
        def next_recorded(shape: Sequence[int]) -> Tensor:
            values = self.remaining.pop(0)
            assert tuple(values.shape) == tuple(shape)
            return values

        return next_recorded


class Increment:
    """A recorded increment, and the method set as it was."""

    def __init__(self, recording: Recording, dtype: torch.dtype, adaptation: bool = False) -> None:
        config = recording.config
        self.recording, self.dtype = recording, dtype
        self.method = RecordedDraws(
            positive_weight=float(config["pos_weight"]),
            consistency_weight=float(config["pkd"]),
            discrimination_weight=float(config["cont"]),
            uncertainty_weight=float(config["uncer"]),
            replay_rule=RULES[config["rules_of"]],
            adaptation=adaptation,
        )
        self.method.use(recording, dtype)
        old, new = config["n_old_classes"], config["n_new_classes"]
        ids = tuple(range(1, old + new + 1))
        self.step = Step(config["step"], ids[:old], ids[old:])
        self.setting = SETTINGS[config["setting"]]
        count = sum(re.fullmatch(r"labels\d+", key) is not None for key in recording.arrays)
        self.batches = [self.batch(recording.tensor(f"labels{i}")) for i in range(count)]
        self.features = [recording.tensor(f"features{i}", dtype).requires_grad_() for i in range(count)]
        self.network = RecordedFeatures(recording, "cur", self.features)
        old_features = [recording.tensor(f"features_old{i}", dtype) for i in range(count)]
        self.old_model = RecordedFeatures(recording, "old", old_features)
        names = {ours: f"prev.{recorded}" for ours, recorded in STORED.items()}
        self.state: State = {ours: recording.tensor(name, dtype) for ours, name in names.items()}
        self.state |= {key: recording.tensor(names[key]) for key in ("numbers", "current_numbers")}

    def batch(self, labels: Tensor) -> PixelBatch:
        images = torch.zeros(len(labels), 3, *labels.shape[1:])
        return PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))

    def context(self, **values: Any) -> Any:
        self.network.answered = self.old_model.answered = 0
        return step_context(
            self.step,
            self.network,
            old_model=self.old_model,
            setting=self.setting,
            batches=self.batches,
            state=self.state,
            **values,
        )

    def plan(self) -> None:
        self.state = self.method.before_step(self.context())


@pytest.mark.parametrize("case", steps(True))
def test_plan(case: Case) -> None:
    recording = load(case)
    increment = Increment(recording, torch.float64)
    increment.plan()
    state, arrays = increment.state, recording.arrays
    assert state["replayed"] == arrays["replay_per_iteration"].tolist()
    assert_close(state["background_ratio"], arrays["background_ratio"], GROUP, "float64", "ratio")
    assert_close(state["numbers"], arrays["total_numbers"], GROUP, "float64", "numbers")
    new = arrays["new_numbers"]
    assert state["numbers"][-(len(new) - 1) :].tolist() == new[1:].tolist()


@pytest.mark.parametrize("case", steps(True))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_every_batch(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    increment = Increment(recording, dtype)
    increment.plan()
    method, context, config = increment.method, increment.context(), recording.config
    weights = {"consistency": config["pkd"], "discrimination": config["cont"], "uncertainty": config["uncer"]}
    recorded = {"consistency": "ocfm", "discrimination": "cpd", "uncertainty": "uac"}
    for i, batch in enumerate(increment.batches):
        increment.network.zero_grad()
        with torch.no_grad():
            old_outputs = increment.old_model(batch.images)
        outputs = method.forward(context, batch, old_outputs)
        targets = method.targets(context, batch, old_outputs)
        terms = method.losses(context, batch, outputs, old_outputs, targets)
        total = (
            sum(terms.values()) + (config["mbce"] - 1) * terms["classification"]
        )  # always weighted with 1 by the method
        total.backward()
        values = {recorded[name]: terms[name] / weights[name] for name in weights if weights[name]}
        for name, value in {**values, "class": terms["classification"], "total": total}.items():
            assert_close(value, recording.arrays[f"b{i}.{name}{suffix}"], GROUP, precision, f"{name} {i}")
        gradient = recording.arrays[f"b{i}.grad.features{suffix}"]
        assert_close(increment.features[i].grad, gradient, GROUP, precision, f"features {i}")
        if dtype == torch.float64:
            prefix = f"b{i}.grad.cls."
            expected = {key.removeprefix(prefix) for key in recording.arrays if key.startswith(prefix)}
            found = {key: p.grad for key, p in increment.network.cls.named_parameters() if p.grad is not None}
            assert set(found) == expected, "which classifiers receive a gradient"
            for key, value in found.items():
                assert_close(value, recording.arrays[prefix + key], GROUP, precision, f"classifier {key}, batch {i}")
    assert not method.remaining


@pytest.mark.parametrize("case", steps(True))
@pytest.mark.parametrize("reading", ["released", "adapted"])
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_what_a_step_leaves(case: Case, reading: str, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    recording = load(case)
    increment = Increment(recording, dtype, adaptation=reading == "adapted")
    increment.plan()
    last = increment.context(iteration=10)
    left = increment.method.after_step(last)
    assert {f"{reading}.{name}" for name in STORED.values()} <= recording.arrays.keys()
    for ours, name in STORED.items():
        expected = recording.arrays[f"{reading}.{name}{suffix}"]
        assert_close(left[ours], expected, GROUP, precision, f"{reading} {name}")


@pytest.mark.parametrize("case", steps(True))
@pytest.mark.parametrize(("dtype", "suffix", "precision"), RUNS, ids=["float64", "float32"])
def test_adaptation_within_a_step(case: Case, dtype: torch.dtype, suffix: str, precision: Precision) -> None:
    """From the next epoch on the moved tables are in use; done twice, they start from the stored ones again."""
    recording = load(case)
    increment = Increment(recording, dtype, adaptation=True)
    increment.plan()
    period = increment.method.adaptation_period
    for number in (1, 2):
        context = increment.context(iteration=number * period - 1, iterations=10 * period, iterations_per_epoch=1)
        increment.method.after_update(context)
        used = increment.method.statistics_in_use(increment.state)
        for name, value in (("prev_prototypes", used.prototypes), ("prev_noise", used.deviations)):
            expected = recording.arrays[f"adapted.{name}{suffix}"]
            assert_close(value, expected, GROUP, precision, f"{name}, time {number}")
