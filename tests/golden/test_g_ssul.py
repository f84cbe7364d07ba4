"""SSUL: pseudo-labels, losses and gradients, with the unknown class through the method's own hooks.

The exemplar sampling of this group is tested in ``test_exemplar_sampling.py``.
"""

from __future__ import annotations

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases_holding, load
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import Reduction, binary_cross_entropy, cross_entropy
from model.losses.score_pseudo_labels import score_pseudo_labels
from model.methods.base import Method
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_ssul"
cases_holding(GROUP, "memory_list")  # taken by test_exemplar_sampling.py


WHOLE_STEPS = [
    case
    for case in cases_holding(GROUP, "pseudo_labels")
    if case.values[0] is None
    or (load(case.values[0]).config["unknown_class"] and load(case.values[0]).config["loss_type"] == "bce_loss")
]
"""The method always has an unknown class and binary classifiers; other recordings are of its losses alone."""


def precision_of(name: str) -> Precision:
    """The float64 run adds the channels up in a float32 map, whatever it weighs and averages afterwards."""
    return "float32" if name.startswith("bce.") else "float64"


def pseudo_labels(recording: Recording, dtype: torch.dtype) -> Tensor:
    config = recording.config
    labels, old_logits = recording.tensor("labels"), recording.tensor("logits_old", dtype)
    scores = old_logits.softmax(dim=1) if config["loss_type"] == "ce_loss" else old_logits.sigmoid()
    return score_pseudo_labels(labels, scores, config["fg_idx"] + 1, config["pseudo_thresh"])


@pytest.mark.parametrize("case", cases_holding(GROUP, "pseudo_labels"))
def test_pseudo_labels(case: Case) -> None:
    recording = load(case)
    for dtype in (torch.float64, torch.float32):
        assert torch.equal(pseudo_labels(recording, dtype), recording.tensor("pseudo_labels"))


@pytest.mark.parametrize("case", cases_holding(GROUP, "pseudo_labels"))
def test_losses_and_gradients(case: Case) -> None:
    recording = load(case)
    labels = recording.tensor("pseudo_labels")
    names = {name.removesuffix(".value") for name in recording.arrays if name.endswith(".value")}
    reductions: dict[str, Reduction] = {"bce.mean": "mean-valid", "bce.sum": "sum", "bce.none": "none"}
    assert names == ({"ce"} if recording.config["loss_type"] == "ce_loss" else {*reductions, "bce.weighted"})

    def value_of(name: str, logits: Tensor) -> Tensor:
        if name == "ce":
            return cross_entropy(logits, labels, "mean-valid")
        if name == "bce.weighted":
            values = binary_cross_entropy(logits, labels, "none")
            return (values * recording.tensor("weight", logits.dtype)).sum() / (labels != 255).sum()
        return binary_cross_entropy(logits, labels, reductions[name])

    for name in sorted(names):
        logits = recording.tensor("logits").requires_grad_()
        value = value_of(name, logits)
        (gradient,) = torch.autograd.grad(value.sum(), logits)
        expected = recording.arrays[f"{name}.value"]
        assert_close(value, expected, GROUP, precision_of(name), name)
        assert_close(gradient, recording.arrays[f"{name}.grad.logits"], GROUP, "float64", f"gradient of {name}")
        if f"{name}.value_f32" in recording.arrays:
            single = value_of(name, recording.tensor("logits", torch.float32))
            assert_close(single, recording.arrays[f"{name}.value_f32"], GROUP, "float32", name)


def recorded_batch(recording: Recording) -> PixelBatch:
    """What our loader would have handed over: recorded labels have unknown (0) and background (1) told apart."""
    recorded = recording.tensor("labels")
    labels = torch.where(recorded == 255, 255, (recorded - 1).clamp(min=0))
    images = torch.zeros(len(labels), 3, *labels.shape[1:])
    from_memory = torch.zeros(len(labels), dtype=torch.bool)
    return PixelBatch(images, labels, ("",) * len(labels), from_memory, saliency=recorded == 0)


@pytest.mark.parametrize("name", ["ssul", "ssul-m"])
@pytest.mark.parametrize("case", WHOLE_STEPS)
def test_whole_training_step(case: Case, name: str) -> None:
    recording = load(case)
    method: Method = build(name, {"score_threshold": recording.config["pseudo_thresh"]})
    logits, old_logits = recording.tensor("logits").requires_grad_(), recording.tensor("logits_old")
    outputs, old_outputs = PixelOutputs(logits, logits, logits), PixelOutputs(old_logits, old_logits, old_logits)
    old, new = old_logits.shape[1] - 2, logits.shape[1] - old_logits.shape[1]
    ids = tuple(range(1, old + new + 1))
    batch = recorded_batch(recording)

    context = step_context(Step(1, ids[:old], ids[old:]))
    targets = method.targets(context, batch, old_outputs)
    (value,) = method.losses(context, batch, outputs, old_outputs, targets).values()
    value.backward()

    assert torch.equal(targets, recording.tensor("pseudo_labels"))
    assert_close(value, recording.arrays["bce.mean.value"], GROUP, precision_of("bce.mean"), "loss")
    assert logits.grad is not None
    assert_close(logits.grad, recording.arrays["bce.mean.grad.logits"], GROUP, "float64", "gradient")
