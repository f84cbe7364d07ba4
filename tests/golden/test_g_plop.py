"""PLOP: entropies, thresholds, pseudo-labels and whole training steps through the method's hooks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases, load
from torch import Tensor, nn

from model.data.loading.pixel_batch import PixelBatch
from model.losses.classification import cross_entropy
from model.losses.entropy_pseudo_labels import mean_entropy
from model.losses.pooled_distillation import local_pooled_embedding
from model.methods.pixel.plop import PLOP
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_plop"


def step_of(recording: Recording) -> Step:
    """The recorded class numbers contain the background in the first step."""
    first, *others = recording.config["classes_per_step"]
    ids = tuple(range(1, first + sum(others)))
    new = others[-1]
    return Step(len(others), ids[:-new], ids[-new:])


def method_of(recording: Recording) -> PLOP:
    config = recording.config
    method = build(
        "plop",
        {
            "feature_weight": config["pod_factor"],
            "logit_weight": config["pod_options"]["switch"]["after"]["factor"],
            "scales": config["spp_scales"],
            "min_threshold": config["threshold"],
            "rescale_images": config["classif_adaptive_factor"],
        },
    )
    assert isinstance(method, PLOP)
    return method


def batch_of(labels: Tensor) -> PixelBatch:
    images = torch.zeros(len(labels), 3, *labels.shape[1:])
    return PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))


@dataclass
class Replayed(nn.Module):
    """A network that answers with recorded logits, one batch after the other."""

    logits: list[Tensor]

    def __post_init__(self) -> None:
        super().__init__()

    def forward(self, images: Tensor) -> PixelOutputs:
        logits = self.logits.pop(0)
        return PixelOutputs(logits, logits, logits)


def learnt_thresholds(recording: Recording) -> Tensor:
    streams = sorted(
        key.partition(".")[0] for key in recording.arrays if key.startswith("stream") and key.endswith("labels")
    )
    batches = [batch_of(recording.tensor(f"{name}.labels")) for name in streams]
    old_model = Replayed([recording.tensor(f"{name}.logits_old") for name in streams])
    context = step_context(step_of(recording), old_model=old_model, batches=batches)
    return method_of(recording).before_step(context)["thresholds"]


def outputs_of(
    recording: Recording, suffix: str, dtype: torch.dtype, gradient: bool
) -> tuple[PixelOutputs, dict[str, Tensor]]:
    """The recorded maps in their places: the last intermediate one is the head's output."""
    count = sum(key.startswith("attention") and key.endswith("_old") for key in recording.arrays)
    names = ["logits", "small_logits", *(f"attention{i}" for i in range(count))]
    leaves = {name: recording.tensor(name + suffix, dtype).requires_grad_(gradient) for name in names}
    *stages, last = (leaves[f"attention{i}"] for i in range(count))
    return PixelOutputs(leaves["logits"], last, last, leaves["small_logits"], tuple(stages)), leaves


@pytest.mark.parametrize("case", cases(GROUP))
def test_thresholds(case: Case) -> None:
    recording = load(case)
    assert_close(learnt_thresholds(recording), recording.arrays["thresholds"], GROUP, "float32", "thresholds")


@pytest.mark.parametrize("case", cases(GROUP))
def test_entropy_and_embeddings_in_double_precision(case: Case) -> None:
    recording = load(case)
    logits = recording.tensor("logits_old", torch.float64)
    assert_close(mean_entropy(logits), recording.arrays["entropy"], GROUP, "float64", "entropy")
    channels = logits.shape[1] + len(step_of(recording).current)
    expected = recording.arrays["entropy"] / recording.arrays["max_entropy"]
    assert_close(PLOP().uncertainty(logits, channels), expected, GROUP, "float64", "uncertainty")
    features = recording.tensor("attention0", torch.float64)
    embeddings = {key for key in recording.arrays if key.startswith("local_pod.")}
    assert embeddings
    for key in embeddings:
        scales = [int(scale) for scale in key.removeprefix("local_pod.scales_").split("_")]
        assert_close(local_pooled_embedding(features, scales), recording.arrays[key], GROUP, "float64", key)


@pytest.mark.parametrize("case", cases(GROUP))
def test_distillation_in_double_precision(case: Case) -> None:
    recording = load(case)
    new, _ = outputs_of(recording, "", torch.float64, False)
    old, _ = outputs_of(recording, "_old", torch.float64, False)
    assert_close(
        method_of(recording).distillation(new, old), recording.arrays["pod_loss_double"], GROUP, "float64", "POD"
    )


@pytest.mark.parametrize("case", cases(GROUP))
def test_whole_training_step(case: Case) -> None:
    recording = load(case)
    method, step = method_of(recording), step_of(recording)
    state: dict[str, Any] = {"thresholds": learnt_thresholds(recording)}
    outputs, leaves = outputs_of(recording, "", torch.float32, True)
    old_outputs, _ = outputs_of(recording, "_old", torch.float32, False)
    batch = batch_of(recording.tensor("labels"))

    context = step_context(step, state=state)
    targets = method.targets(context, batch, old_outputs)
    terms = method.losses(context, batch, outputs, old_outputs, targets)
    sum(terms.values()).backward()

    assert torch.equal(targets.labels, recording.tensor("pseudo_labels"))
    assert torch.equal(batch.labels, recording.tensor("labels"))
    ce = cross_entropy(outputs.logits.detach(), targets.labels, "none")
    assert_close(ce, recording.arrays["ce_map"], GROUP, "float32", "cross-entropy map")
    assert_close(terms["classification"], recording.arrays["class_loss"], GROUP, "float32", "class loss")
    assert_close(terms["distillation"], recording.arrays["pod_loss"], GROUP, "float32", "POD")
    assert {f"grad.{key}" for key in leaves} == {key for key in recording.arrays if key.startswith("grad.")}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert_close(leaf.grad, recording.arrays[f"grad.{name}"], GROUP, "float32", f"gradient of {name}")
