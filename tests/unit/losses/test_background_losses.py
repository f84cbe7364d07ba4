"""MiB's losses in one pass: they are the plain ones, and remember nothing of the size of the up-sampled logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from model.losses import background_losses as module
from model.losses.background_losses import background_losses
from model.losses.classification import unbiased_cross_entropy
from model.losses.distillation import unbiased_knowledge_distillation
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.outputs import PixelOutputs, UpsampledOutputs


def plain(logits: Tensor, old_logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    size = labels.shape[1:]
    large, old_large = (F.interpolate(z, size=size, mode="bilinear") for z in (logits, old_logits))
    return (
        unbiased_cross_entropy(large, labels, old_logits.shape[1]),
        unbiased_knowledge_distillation(large, old_large),
    )


@settings(max_examples=60, deadline=None)
@given(
    images=st.integers(1, 3),
    old=st.integers(1, 4),
    new=st.integers(0, 3),
    coarse=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 19), st.integers(1, 19)),
    rows=st.integers(1, 7),
    spread=st.sampled_from([0.1, 5.0, 300.0]),
    seed=st.integers(0, 999),
)
def test_values_and_gradients_are_those_of_the_plain_losses(
    images: int,
    old: int,
    new: int,
    coarse: tuple[int, int],
    size: tuple[int, int],
    rows: int,
    spread: float,
    seed: int,
) -> None:
    generator = torch.Generator().manual_seed(seed)
    height, width = (max(small, large) for small, large in zip(coarse, size, strict=True))

    def normal(channels: int) -> Tensor:
        return spread * torch.randn(images, channels, *coarse, generator=generator, dtype=torch.float64)

    logits, old_logits = normal(old + new).requires_grad_(), normal(old)
    labels = torch.randint(0, old + new, (images, height, width), generator=generator)
    labels[torch.rand(labels.shape, generator=generator) < 0.2] = 255
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CACHED_BYTES", rows * (old + new) * width * 8)
        mine = background_losses(logits, old_logits, labels)
        (gradient,) = torch.autograd.grad(mine[0] + 10 * mine[1], logits)
    expected = plain(logits, old_logits, labels)
    (expected_gradient,) = torch.autograd.grad(expected[0] + 10 * expected[1], logits)
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def test_each_loss_has_its_own_gradient() -> None:
    logits, old_logits = torch.randn(1, 5, 4, 4).double().requires_grad_(), torch.randn(1, 3, 4, 4).double()
    labels = torch.randint(0, 5, (1, 8, 8))
    for mine, expected in zip(
        background_losses(logits, old_logits, labels), plain(logits, old_logits, labels), strict=True
    ):
        torch.testing.assert_close(
            torch.autograd.grad(mine, logits, retain_graph=True), torch.autograd.grad(expected, logits)
        )


def test_nothing_of_the_size_of_the_upsampled_logits_is_remembered() -> None:
    logits, old_logits = torch.randn(1, 30, 4, 4, requires_grad=True), torch.randn(1, 20, 4, 4)
    labels = torch.randint(0, 30, (1, 64, 64))
    remembered: list[int] = []

    def note(tensor: Tensor) -> Tensor:
        remembered.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        background_losses(logits, old_logits, labels)
    assert remembered and max(remembered) < 30 * 64 * 64 / 4


def test_half_precision_is_compared_in_single_precision() -> None:
    logits, old_logits = torch.randn(1, 5, 4, 4).bfloat16(), torch.randn(1, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        losses = background_losses(logits, old_logits, torch.randint(0, 5, (1, 8, 8)))
    assert losses[0].dtype == losses[1].dtype == torch.float32


def test_logits_of_two_sizes_meet_at_that_of_the_labels() -> None:
    logits, old_logits = torch.randn(1, 5, 4, 4).double(), torch.randn(1, 3, 8, 8).double()
    labels = torch.randint(0, 5, (1, 8, 8))
    torch.testing.assert_close(background_losses(logits, old_logits, labels), plain(logits, old_logits, labels))


@pytest.mark.parametrize(("channels", "images"), [(2, 1), (5, 2)])
def test_what_cannot_be_compared_is_refused(channels: int, images: int) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        background_losses(torch.zeros(images, channels, 2, 2), torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2).long())


def test_the_logits_of_a_network_are_upsampled_when_they_are_asked_for() -> None:
    outputs = DeepLabV3((2, 1), backbone="tiny", channels=8).eval()(torch.randn(1, 3, 32, 48))
    assert isinstance(outputs, UpsampledOutputs) and "logits" not in vars(outputs)
    assert outputs.compact_logits is outputs.coarse_logits and "logits" not in vars(outputs)
    expected = F.interpolate(outputs.coarse_logits, size=(32, 48), mode="bilinear")
    assert torch.equal(outputs.logits, expected) and outputs.logits is outputs.logits
    with pytest.raises(AttributeError, match="masks"):
        _ = outputs.masks


def test_logits_that_replace_the_upsampled_ones_are_the_compact_ones_too() -> None:
    from dataclasses import replace

    outputs = DeepLabV3((2,), backbone="tiny", channels=8).eval()(torch.randn(1, 3, 32, 32))
    others = torch.zeros(1, 3, 32, 32)
    replaced = replace(outputs, logits=others)
    assert replaced.logits is others and replaced.compact_logits is others and replaced.body is outputs.body
    given = PixelOutputs(others, others, others)
    assert given.compact_logits is others
