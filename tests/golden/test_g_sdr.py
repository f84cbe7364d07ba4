"""SDR: running prototypes, the terms of the feature space in both layouts, sparsity, and whole training steps.

Cases of pieces hold features and what the release computes from them; every recorded value must be claimed by a formula here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from contexts import step_context
from golden import Case, Precision, Recording, assert_close, cases, difference, load
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.losses.class_prototypes import (
    attraction,
    class_sums,
    present_classes,
    prototype_matching,
    repulsion,
    running_prototypes,
)
from model.losses.distillation import feature_distillation
from model.losses.reduced_labels import labels_at
from model.losses.sparsity import sparsity
from model.methods.pixel.sdr import SDR, visible_classes
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

GROUP = "g_sdr"
REPULSION_TOLERANCE = 1e-4
"""Of float32: inverse distances, see the README of the recordings."""
RELATIVE_TOLERANCE = 1e-4

NORMALISATIONS = {
    "L1": "l1",
    "L2": "l2",
    "max_foreachfeature": "pixel-max",
    "max_maskedforclass": "class-max",
    "max_overall": "batch-max",
    "softmax": "softmax",
}
SHRINKINGS = {"squared": "squared", "power3": "cubed", "exponential": "exponential"}
REPULSIONS = {"on_prototypes": "prototypes", "orthogonal": "orthogonal", "orthogonal_max": "orthogonal-max"}


def is_piece(recording: Recording) -> bool:
    return "proto_counts" in recording.arrays


def formula(name: str, recording: Recording) -> Callable[[Tensor], Tensor]:
    """Our term, as a function of the features, for a recorded name such as ``attraction.l2.official``."""
    labels, prototypes = (
        labels_at(recording.tensor("labels"), recording.tensor("features")),
        recording.tensor("prototypes"),
    )
    old = recording.config["old_classes_incl_background"]
    term, *parts = name.split(".")
    if term == "sparsity":
        normalisation, shrinking, form = parts
        choice: Any = {"normalisation": NORMALISATIONS[normalisation], "shrinking": SHRINKINGS[shrinking], "form": form}
        return lambda features: sparsity(features, labels, **choice)
    if term == "encoder_distill":
        measure, *masked = parts
        region = labels < old if masked == ["masked_old"] else None
        assert measure in ("mse", "cosine") and masked in ([], ["masked_old"])
        return partial(
            feature_distillation,
            old_features=recording.tensor("features_old"),
            region=region,
            cosine=measure == "cosine",
        )
    variant, layout = parts
    released = {"official": True, "intended": False}[layout]
    if term == "matching":
        predicted = labels_at(recording.tensor("logits_old").argmax(dim=1), recording.tensor("features"))
        places = {
            "pseudo": torch.where(labels == 0, predicted, 0),
            "sequential": torch.where(labels < old, labels, 0),
        }
        form, _, source = variant.rpartition("_")
        each_pixel = {"sum_after": False, "per_pixel": True}[form]
        return lambda features: prototype_matching(
            features, places[source], prototypes, each_pixel=each_pixel, released_layout=released
        )
    classes, unit = present_classes(labels, skip_first=variant == "nobgr"), variant == "l2"
    if term == "attraction":
        assert variant in ("default", "nobgr", "l2")
        return lambda features: attraction(
            features, labels, prototypes, classes, unit=unit, released_division=True, released_layout=released
        )
    assert term == "repulsion", f"nothing is known of '{name}'"
    form = "means" if variant in ("default", "nobgr", "l2") else REPULSIONS[variant]
    return lambda features: repulsion(
        features, labels, prototypes, classes, form=form, unit=unit, released_layout=released
    )


def compare(name: str, actual: Tensor, expected: Any, what: str) -> None:
    """Arrays of the float64 run keep their type unless they went through a float32 buffer."""
    precision: Precision = "float64" if expected.dtype == "float64" else "float32"
    if name.startswith("repulsion") and precision == "float32":
        assert difference(actual, expected) <= REPULSION_TOLERANCE, what
    else:
        assert_close(actual, expected, GROUP, precision, what)


@pytest.mark.parametrize("case", cases(GROUP))
def test_terms_and_gradients_in_double_precision(case: Case) -> None:
    recording = load(case)
    if not is_piece(recording):
        return
    names = sorted(key.removesuffix(".value") for key in recording.arrays if key.endswith(".value"))
    assert names
    for name in names:
        features = recording.tensor("features", torch.float64).requires_grad_()
        value = formula(name, recording)(features)
        compare(name, value, recording.arrays[f"{name}.value"], name)
        if f"{name}.grad.features" in recording.arrays:
            (gradient,) = torch.autograd.grad(value, features)
            compare(name, gradient, recording.arrays[f"{name}.grad.features"], f"gradient of {name}")


@pytest.mark.parametrize("case", cases(GROUP))
def test_terms_in_single_precision(case: Case) -> None:
    recording = load(case)
    for key in sorted(key for key in recording.arrays if key.endswith(".value_f32")):
        value = formula(key.removesuffix(".value_f32"), recording)(recording.tensor("features", torch.float32))
        assert_close(value, recording.arrays[key], GROUP, "float32", key)


@pytest.mark.parametrize("case", cases(GROUP))
def test_labels_at_the_size_of_the_features(case: Case) -> None:
    recording = load(case)
    if "labels_down" in recording.arrays:
        reduced = labels_at(recording.tensor("labels"), recording.tensor("features"))
        assert torch.equal(reduced, recording.tensor("labels_down").squeeze(1))


def updated(recording: Recording, classes: list[int], layout: str) -> tuple[Tensor, Tensor]:
    features, prototypes = recording.tensor("features"), recording.tensor("prototypes")
    labels = labels_at(recording.tensor("labels"), features)
    counts = recording.tensor("proto_counts").flatten()
    found = class_sums(features, labels, classes, len(prototypes), released_layout=layout == "official")
    return running_prototypes(prototypes, counts, *found)


@pytest.mark.parametrize("case", cases(GROUP))
def test_running_prototypes_by_setting(case: Case) -> None:
    recording = load(case)
    if not is_piece(recording):
        return
    labels = labels_at(recording.tensor("labels"), recording.tensor("features"))
    rules = {key.rpartition(".prototypes.")[0] for key in recording.arrays if ".prototypes." in key}
    assert rules
    for rule in sorted(rules):
        match = re.fullmatch(r"running_update\.(\w+)_step(\d+)", rule)
        assert match, rule
        classes = visible_classes(labels, match[1], int(match[2]))
        for layout in ("official", "intended"):
            prototypes, counts = updated(recording, classes, layout)
            assert_close(
                prototypes, recording.arrays[f"{rule}.prototypes.{layout}"], GROUP, "float64", f"{rule} {layout}"
            )
            assert_close(counts.unsqueeze(1), recording.arrays[f"{rule}.counts"], GROUP, "float64", f"counts of {rule}")


def step_of(recording: Recording) -> Step:
    """The recorded class numbers contain the background in the first step."""
    first, *others = recording.config["classes_per_step"]
    *past, current = [first - 1, *others]
    ids = tuple(range(1, 1 + sum(past) + current))
    return Step(len(past), ids[: sum(past)], ids[sum(past) :])


def method_of(config: dict[str, Any]) -> SDR:
    """The recorded switches by our names; ``lfs`` are normalisation, shrinking and form."""
    assert config["alpha"] == 1
    normalisation, shrinking, form = config["lfs"]
    method = build(
        "sdr",
        {
            "distillation_weight": config["loss_kd"],
            "matching_weight": config["loss_de_prototypes"],
            "attraction_weight": config["loss_fc"],
            "repulsion_weight": config["lfc_sep_clust"],
            "sparsity_weight": config["loss_featspars"],
            "unbiased_classification": config["unbiased_ce"],
            "unbiased_distillation": config["unbiased_kd"],
            "matching_by_pixel": not config["sumafter"],
            "sparsity_normalisation": NORMALISATIONS[normalisation],
            "sparsity_shrinking": SHRINKINGS[shrinking],
            "sparsity_form": form,
        },
    )
    assert isinstance(method, SDR)
    return method


@pytest.mark.parametrize("case", cases(GROUP))
def test_whole_training_step(case: Case) -> None:
    recording = load(case)
    if is_piece(recording):
        return
    method, step = method_of(recording.config), step_of(recording)
    leaves = {key: recording.tensor(key).requires_grad_() for key in ("logits", "features")}
    outputs = PixelOutputs(leaves["logits"], leaves["features"], leaves["features"])
    old = None
    if step.index:
        old_logits = recording.tensor("logits_old")
        old = PixelOutputs(old_logits, torch.zeros(()), torch.zeros(()))
    labels = recording.tensor("labels")
    images = torch.zeros(len(labels), 3, *labels.shape[1:])
    batch = PixelBatch(images, labels, ("",) * len(labels), torch.zeros(len(labels), dtype=torch.bool))
    state = {"prototypes": recording.tensor("prototypes"), "counts": recording.tensor("counts").flatten()}
    context = step_context(step, setting=recording.config["setting"], state=state)

    terms = method.losses(context, batch, outputs, old, method.targets(context, batch, old))
    sum(terms.values()).backward()

    statistic = sum(terms[name] for name in ("distillation", "attraction", "repulsion") if name in terms)
    assert_close(terms["classification"], recording.arrays["class_loss"], GROUP, "float32", "class loss")
    assert_close(statistic, recording.arrays["reg_loss"], GROUP, "float32", "logged regularisation")
    assert_close(context.state["prototypes"], recording.arrays["prototypes_after"], GROUP, "float32", "prototypes")
    assert_close(context.state["counts"].unsqueeze(1), recording.arrays["counts_after"], GROUP, "float32", "counts")
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        assert_close(leaf.grad, recording.arrays[f"grad.{name}"], GROUP, "float32", f"gradient of {name}")
        relative = difference(leaf.grad, recording.arrays[f"grad.{name}"], floor=0.0)  # those of the features are tiny
        assert relative <= RELATIVE_TOLERANCE, f"gradient of {name} differs by {relative:.3g} of its largest entry"
