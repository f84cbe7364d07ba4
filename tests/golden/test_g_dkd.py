"""DKD: whole steps through the method's hooks, and the plain BCE of its code base. A case is told by the arrays it has."""

from __future__ import annotations

import re
from functools import cache

import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases, load
from torch import Tensor, nn
from torch.nn import functional

from model.data.loading.pixel_batch import PixelBatch
from model.losses.foreground import foreground_cross_entropy, soft_foreground_cross_entropy
from model.losses.reasoning_distillation import reasoning_scores
from model.methods.pixel.dkd import DKD, class_weights
from model.methods.registry import build
from model.networks.deeplabv3.initialisation import initialise_from_auxiliary
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_dkd"
WEIGHTS = {
    "kd": "distillation_weight",
    "dkd_pos": "positive_reasoning_weight",
    "dkd_neg": "negative_reasoning_weight",
    "ac": "auxiliary_weight",
}
TERMS = {
    "mbce": "classification",
    "kd": "distillation",
    "dkd_pos": "positive_reasoning",
    "dkd_neg": "negative_reasoning",
    "ac": "auxiliary",
}


@cache
def is_step(case: Case) -> bool:
    return "features" in load(case).arrays


def only(wanted: bool) -> list[object]:
    """Whole steps, or cases of the plain loss."""
    found = [p for p in cases(GROUP) if not isinstance(p.values[0], Case) or is_step(p.values[0]) == wanted]
    assert found
    return found


class Heads(nn.Module):
    """The recorded classifiers, the auxiliary one first, and the logits that the network would have."""

    def __init__(self, recording: Recording, suffix: str = "") -> None:
        super().__init__()
        self.cls = nn.ModuleList()
        names = [k for k in recording.arrays if re.fullmatch(rf"head\d+{suffix}\.weight", k)]
        for number in range(len(names)):
            weight, bias = (recording.tensor(f"head{number}{suffix}.{key}") for key in ("weight", "bias"))
            head = nn.Conv2d(weight.shape[1], weight.shape[0], 1, dtype=weight.dtype)
            head.load_state_dict({"weight": weight, "bias": bias})
            self.cls.append(head)

    def outputs(self, x: Tensor, size: torch.Size) -> PixelOutputs:
        coarse = torch.cat([self.cls[0](x.detach()), *(head(x) for head in self.cls[1:])], dim=1)
        logits = functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
        return PixelOutputs(logits, x, x, coarse)


def method_of(recording: Recording) -> DKD:
    config = recording.config
    weights = {field: float(config[key]) for key, field in WEIGHTS.items()}
    return DKD(positive_weight=config["pos_weight"], base_positive_weight=config["pos_weight"], **weights)


def steps_of(recording: Recording) -> Step:
    old, new = recording.config["n_old_classes"], recording.config["n_new_classes"]
    ids = tuple(range(1, old + new + 1))
    return Step(1, ids[:old], ids[old:])


@pytest.mark.parametrize("case", only(True))
def test_whole_training_step(case: Case) -> None:
    recording = load(case)
    method, step = method_of(recording), steps_of(recording)
    network, old_model = Heads(recording), Heads(recording, "_old")
    labels, features = recording.tensor("labels"), recording.tensor("features").requires_grad_()
    size = labels.shape[1:]
    outputs = network.outputs(features, size)
    with torch.no_grad():
        old_outputs = old_model.outputs(recording.tensor("features_old"), size)
    images = torch.zeros(len(labels), 3, *size)
    batch = PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))

    context = step_context(step, network, old_model=old_model)
    targets = method.targets(context, batch, old_outputs)
    terms = method.losses(context, batch, outputs, old_outputs, targets)
    terms["classification"] = recording.config["mbce"] * terms["classification"]
    total = sum(terms.values())
    total.backward()

    assert_close(outputs.logits, recording.arrays["logits"], GROUP, "float32", "logits")
    for recorded, ours in TERMS.items():
        per_class = recording.arrays["ac" if recorded == "ac" else f"{recorded}_per_class"]
        expected = recording.config[recorded] * per_class.sum()
        assert_close(terms[ours], expected, GROUP, "float32", ours)
    assert_close(total, recording.arrays["total"], GROUP, "float32", "total")
    assert_close(features.grad, recording.arrays["grad.features"], GROUP, "float32", "features")
    recorded_gradients = {k.removeprefix("grad.head") for k in recording.arrays if k.startswith("grad.head")}
    assert recorded_gradients == {name for name, _ in network.cls.named_parameters()}
    for name, parameter in network.cls.named_parameters():
        assert_close(parameter.grad, recording.arrays[f"grad.head{name}"], GROUP, "float32", f"head {name}")


@pytest.mark.parametrize("case", only(True))
def test_losses_of_single_classes(case: Case) -> None:
    recording = load(case)
    past, labels = recording.config["n_old_classes"], recording.tensor("labels")
    logits = recording.tensor("logits")[:, 1 + past :]
    weight = recording.config["pos_weight"]
    ours = [foreground_cross_entropy(logits[:, [k]], labels, past + 1 + k, weight) for k in range(logits.shape[1])]
    assert_close(torch.stack(ours), recording.arrays["mbce_per_class"], GROUP, "float32", "classification")


@pytest.mark.parametrize("case", only(True))
def test_reasons(case: Case) -> None:
    recording = load(case)
    positive, negative = reasoning_scores(recording.tensor("features"), class_weights(Heads(recording)))
    assert_close(positive, recording.arrays["pos_reg"], GROUP, "float32", "for")
    assert_close(negative, recording.arrays["neg_reg"], GROUP, "float32", "against")


@pytest.mark.parametrize("case", only(True))
def test_new_classes_start_as_the_auxiliary_classifier(case: Case) -> None:
    recording = load(case)
    network = Heads(recording)
    initialise_from_auxiliary(network.cls)
    for key in ("weight", "bias"):
        assert_close(getattr(network.cls[-1], key), recording.arrays[f"init_novel.{key}"], GROUP, "float32", key)


@pytest.mark.parametrize("case", only(True))
def test_decision(case: Case) -> None:
    recording = load(case)
    logits = recording.tensor("logits")
    prediction = build("dkd").predict(PixelOutputs(logits, logits, logits), steps_of(recording))
    assert torch.equal(prediction, recording.tensor("prediction"))


@pytest.mark.parametrize("case", only(False))
def test_plain_loss(case: Case) -> None:
    recording = load(case)
    labels = recording.tensor("labels")
    names = [key.removesuffix(".value") for key in recording.arrays if key.endswith(".value")]
    assert names
    for name in names:
        loss, switch = name.split(".")
        background = {"ignore_bg_True": False, "ignore_bg_False": True}[switch]

        def value_of(dtype: torch.dtype, loss: str = loss, background: bool = background) -> tuple[Tensor, Tensor]:
            logits = recording.tensor("logits", dtype).requires_grad_()
            old = {"bce": None, "bce_with_old": recording.tensor("logits_old", dtype)}[loss]
            return soft_foreground_cross_entropy(logits, labels, old, background), logits

        value, logits = value_of(torch.float64)
        (gradient,) = torch.autograd.grad(value, logits)
        assert_close(value, recording.arrays[f"{name}.value"], GROUP, "float32", name)  # recorded in single precision
        assert_close(gradient, recording.arrays[f"{name}.grad.logits"], GROUP, "float64", f"gradient of {name}")
        single, _ = value_of(torch.float32)
        assert_close(single, recording.arrays[f"{name}.value_f32"], GROUP, "float32", f"{name}, float32")
