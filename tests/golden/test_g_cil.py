"""CIL's distillation, the paper's and the released one, with and without labels and with both denominators."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from golden import Case, Recording, assert_close, cases, load
from torch import Tensor

from model.losses.entropy_weighted_distillation import entropy_weighted_distillation

GROUP = "g_cil"

ROUNDED_BIT = math.log(2) / float(np.float32(math.log(2)))
"""The released code divides natural logarithms by log 2 in single precision, also in the float64 run."""


def formula(name: str, recording: Recording, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """Our loss, as a function of the logits, for a recorded name such as ``released.nolabels_norm_True``."""
    reading, _, options = name.partition(".")
    assert reading in ("paper", "released"), f"nothing is known of '{name}'"
    old_logits = recording.tensor("logits_old_padded", dtype)[:, : recording.config["C_old"]]
    labels = None if options.startswith("nolabels") else recording.tensor("labels")
    assert recording.config.get("temperature", 1) == 1
    entropy_weight = recording.config["gs"] * (ROUNDED_BIT if reading == "released" else 1.0)
    return lambda logits: entropy_weighted_distillation(
        logits,
        old_logits,
        labels,
        entropy_weight,
        released_product=reading == "released",
        weighted_mean=options.endswith("norm_True"),
    )


@pytest.mark.parametrize("case", cases(GROUP))
def test_values_and_gradients_in_double_precision(case: Case) -> None:
    recording = load(case)
    names = {key.removesuffix(".value") for key in recording.arrays if key.endswith(".value")}
    assert names
    for name in sorted(names):
        logits = recording.tensor("logits", torch.float64).requires_grad_()
        value = formula(name, recording, torch.float64)(logits)
        (gradient,) = torch.autograd.grad(value, logits)
        assert_close(value, recording.arrays[f"{name}.value"], GROUP, "float64", name)
        assert_close(gradient, recording.arrays[f"{name}.grad.logits"], GROUP, "float64", f"gradient of {name}")


@pytest.mark.parametrize("case", cases(GROUP))
def test_values_in_single_precision(case: Case) -> None:
    recording = load(case)
    names = {key.removesuffix(".value_f32") for key in recording.arrays if key.endswith(".value_f32")}
    for name in sorted(names):
        value = formula(name, recording, torch.float32)(recording.tensor("logits", torch.float32))
        assert_close(value, recording.arrays[f"{name}.value_f32"], GROUP, "float32", name)
