"""CIL on given logits: the defaults are the paper's formula, and its switches reach the loss."""

from __future__ import annotations

import torch
from contexts import step_context
from torch import Tensor

from model.losses.classification import cross_entropy
from model.losses.entropy_weighted_distillation import entropy_weighted_distillation
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step

INCREMENT = Step(1, (11, 12), (13, 14))


def terms_of(**hyper_parameters: object) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits, old_logits = (torch.randn(2, k, 4, 4, generator=generator) for k in (5, 3))
    labels = torch.tensor([0, 3, 255])[torch.randint(0, 3, (2, 4, 4), generator=generator)]
    outputs, old_outputs = (PixelOutputs(z, z, z) for z in (logits, old_logits))
    context = step_context(INCREMENT)
    return (
        build("cil", hyper_parameters).losses(context, None, outputs, old_outputs, labels),
        logits,
        old_logits,
        labels,
    )


def test_the_defaults_are_the_formula_of_the_paper() -> None:
    terms, logits, old_logits, labels = terms_of()
    assert torch.equal(terms["classification"], cross_entropy(logits, labels))
    assert torch.equal(terms["distillation"], entropy_weighted_distillation(logits, old_logits, labels, 1.0))


def test_switches_reach_the_loss() -> None:
    values = [
        terms_of(**options)[0]["distillation"]
        for options in (
            {},
            {"released_product": True},
            {"entropy_weight": 0.0},
            {"weighted_mean": True},
            {"distillation_weight": 2.0},
        )
    ]
    assert len({float(value) for value in values}) == len(values)
    torch.testing.assert_close(values[-1], 2 * values[0])
