"""LGKD: the distillation alone, and whole training steps through the methods' hooks on either host.

A case with ``weights`` is the distillation alone; the others are steps, on MiB's unbiased cross-entropy (``unce``) or on PLOP.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases, load
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy, unbiased_cross_entropy
from model.losses.distillation import unbiased_knowledge_distillation
from model.losses.label_guided_distillation import label_guided_distillation
from model.losses.reduced_labels import labels_at
from model.methods.base import State
from model.methods.pixel.base import PixelMethod
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_lgkd"
PRECISIONS: dict[Precision, tuple[str, torch.dtype]] = {
    "float64": ("", torch.float64),
    "float32": ("_f32", torch.float32),
}


def is_step(recording: Recording) -> bool:
    return "classes_per_step" in recording.config


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", cases(GROUP))
def test_distillation_alone(case: Case, precision: Precision) -> None:
    recording = load(case)
    if is_step(recording):
        return
    suffix, dtype = PRECISIONS[precision]
    old_logits, labels = recording.tensor("logits_old", dtype), recording.tensor("labels")
    scale = recording.config["temperature_factor_on_old_logits"]
    old = recording.config["C_old"]
    for place, weights in enumerate(recording.config["weights"]):
        logits = recording.tensor("logits", dtype).requires_grad_()
        pair = (weights["prev"], weights["novel"])
        value = label_guided_distillation(logits, old_logits, labels, *pair, old_scale=scale)
        (gradient,) = torch.autograd.grad(value, logits)
        terms = label_guided_distillation(logits, old_logits, labels, *pair, old_scale=scale, per_pixel=True)
        previous = labels < old
        listed = torch.cat([terms[previous], terms[~previous & (labels != 255)]])
        for name, ours in (("value", value), ("grad.logits", gradient)):
            assert_close(ours, recording.arrays[f"w{place}.{name}{suffix}"], GROUP, precision, f"{name} {weights}")
        assert_close(listed, recording.arrays[f"w{place}.per_pixel"], GROUP, precision, f"terms {weights}")


@pytest.mark.parametrize("case", cases(GROUP))
def test_distillation_of_mib_for_comparison(case: Case) -> None:
    recording = load(case)
    if "contrast.unbiased_kd" in recording.arrays:
        value = unbiased_knowledge_distillation(recording.tensor("logits"), recording.tensor("logits_old"))
        assert_close(value, recording.arrays["contrast.unbiased_kd"], GROUP, "float64", "unbiased distillation")


def method_of(config: dict[str, Any]) -> PixelMethod:
    assert config["lgkd"] and config["alpha"] == 1 and not config.get("kd_scheduling")
    guided = {
        "distillation_weight": config["loss_kd"],
        "previous_weight": config["prev_kd"],
        "novel_weight": config["novel_kd"],
        "background_initialisation": config["init_balanced"],
    }
    if config["unce"]:
        assert not config.get("pod") and not config.get("pseudo")
        return build("lgkd-mib", guided)
    assert config["pod"] == "local" and config["pseudo"] == "entropy"
    host = {
        "feature_weight": config["pod_factor"],
        "logit_weight": config["pod_options"]["switch"]["after"]["factor"],
        "scales": config["spp_scales"],
        "min_threshold": config["threshold"],
        "rescale_images": config["classif_adaptive_factor"],
    }
    return build("lgkd", guided | host)


def step_of(recording: Recording) -> Step:
    """The recorded class numbers contain the background in the first step."""
    first, *others = recording.config["classes_per_step"]
    *past, current = [first - 1, *others]
    ids = tuple(range(1, 1 + sum(past) + current))
    return Step(len(past), ids[: sum(past)], ids[sum(past) :])


def batch_of(labels: Tensor) -> PixelBatch:
    images = torch.zeros(len(labels), 3, *labels.shape[1:])
    return PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))


class Replayed(nn.Module):
    """A network that answers with recorded logits, one batch after the other."""

    def __init__(self, logits: Iterable[Tensor]) -> None:
        super().__init__()
        self.logits = list(logits)

    def forward(self, images: Tensor) -> PixelOutputs:
        logits = self.logits.pop(0)
        return PixelOutputs(logits, logits, logits)


def learnt_state(recording: Recording) -> State:
    """The state that the method's own pass over the recorded stream leaves."""
    names = [key for key in recording.arrays if key.startswith("stream")]
    streams = sorted({name.partition(".")[0] for name in names}, key=lambda name: int(name.removeprefix("stream")))
    batches = [batch_of(recording.tensor(f"{name}.labels")) for name in streams]
    old_model = Replayed(recording.tensor(f"{name}.logits_old") for name in streams)
    return method_of(recording.config).before_step(
        step_context(step_of(recording), old_model=old_model, batches=batches)
    )


def outputs_of(
    recording: Recording, suffix: str, dtype: torch.dtype, gradient: bool
) -> tuple[PixelOutputs, dict[str, Tensor]]:
    """The recorded maps in their places: the last intermediate one, if there is any, is the head's output."""
    maps = sorted(key for key in recording.arrays if key.startswith("attention") and not key.endswith("_old"))
    names = ["logits", "small_logits", *maps]
    leaves = {name: recording.tensor(name + suffix, dtype).requires_grad_(gradient) for name in names}
    *stages, last = (leaves[name] for name in maps) if maps else (leaves["small_logits"],)
    return PixelOutputs(leaves["logits"], last, last, leaves["small_logits"], tuple(stages)), leaves


@pytest.mark.parametrize("case", cases(GROUP))
def test_thresholds(case: Case) -> None:
    recording = load(case)
    if "thresholds" in recording.arrays:
        expected = recording.arrays["thresholds"]
        assert_close(learnt_state(recording)["thresholds"], expected, GROUP, "float32", "thresholds")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("case", cases(GROUP))
def test_whole_training_step(case: Case, precision: Precision) -> None:
    recording = load(case)
    if not is_step(recording):
        return
    suffix, dtype = PRECISIONS[precision]
    method, step = method_of(recording.config), step_of(recording)
    state = learnt_state(recording)
    if "thresholds" in recording.arrays:
        state = {**state, "thresholds": recording.tensor("thresholds")}
    outputs, leaves = outputs_of(recording, "", dtype, True)
    old_outputs, _ = outputs_of(recording, "_old", dtype, False)
    labels = recording.tensor("labels")
    batch, context = batch_of(labels), step_context(step, state=state)

    targets = method.targets(context, batch, old_outputs)
    terms = method.losses(context, batch, outputs, old_outputs, targets)
    total = sum(terms.values(), torch.zeros((), dtype=dtype))
    total.backward()

    small = labels_at(labels, leaves["small_logits"]).unsqueeze(1)
    assert torch.equal(small, recording.tensor("labels_small"))
    if "pseudo_labels" in recording.arrays:
        assert torch.equal(targets.labels, recording.tensor("pseudo_labels"))
    if "ce_map" in recording.arrays:
        logits = outputs.logits.detach()
        seen = getattr(targets, "labels", targets)
        if recording.config["unce"]:
            ce = unbiased_cross_entropy(logits, seen, recording.config["C_old"], "none")
        else:
            ce = cross_entropy(logits, seen, "none")
        assert_close(ce, recording.arrays[f"ce_map{suffix}"], GROUP, precision, "cross-entropy map")
    weight = recording.config["loss_kd"]
    expected = {
        "classification": "class_loss.value",
        "label_guided": "lkd.value",
        "distillation": "pod.value",
    }
    for name, value in terms.items():
        recorded = recording.arrays[expected[name] + suffix] * (weight if name == "label_guided" else 1)
        assert_close(value, recorded, GROUP, precision, name)
    assert_close(total, recording.arrays[f"total.value{suffix}"], GROUP, precision, "total")
    graded = {name: recording.arrays.get(f"total.grad.{name}{suffix}") for name in leaves}
    assert any(gradient is not None for gradient in graded.values())
    for name, gradient in graded.items():
        ours = leaves[name].grad
        if gradient is None:
            assert ours is None or not ours.any(), f"{name} got a gradient"
            continue
        ours = torch.zeros_like(leaves[name]) if ours is None else ours
        assert_close(ours, gradient, GROUP, precision, f"gradient of {name}")
