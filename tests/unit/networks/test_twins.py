"""Twin branches: how they are mixed, and that merging keeps what was computed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from model.networks.twins import MergedConv2d, Mixture, Twins, free_twin


def random_twins(outputs: tuple[int, ...] = (3, 2), inputs: int = 4) -> Twins:
    plain = [nn.Conv2d(inputs, n, 3, padding=1) for n in outputs]
    norms = [nn.BatchNorm2d(sum(outputs)) for _ in range(2)]
    for norm in norms:
        nn.init.normal_(norm.weight)  # both signs
        nn.init.normal_(norm.bias)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
    first = [MergedConv2d(conv) for conv in plain]
    return Twins(first, norms[0].eval(), [free_twin(conv) for conv in plain], norms[1].eval())


def branches(twins: Twins, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    def branch(convs, norm):
        return norm(torch.cat([conv(x) for conv in convs], dim=1))

    return branch(twins.convs, twins.norm), branch(twins.new_convs, twins.new_norm)


@pytest.mark.parametrize("seed", range(3))
def test_the_merged_branch_computes_what_both_did(seed: int) -> None:
    """Merging again changes nothing of this, though the second branch has moved on in between."""
    torch.manual_seed(seed)
    twins, x = random_twins(), torch.randn(2, 4, 5, 6)
    for _ in range(3):
        first, second = branches(twins, x)
        twins.merge()
        merged, unchanged = branches(twins, x)
        torch.testing.assert_close(merged, (first + second) / 2, rtol=1e-4, atol=1e-5)
        assert torch.equal(second, unchanged)
        for conv in twins.new_convs:
            nn.init.normal_(conv.weight)


def test_a_merged_branch_survives_being_stored() -> None:
    torch.manual_seed(0)
    twins, x = random_twins(), torch.randn(1, 4, 5, 5)
    twins.merge()
    other = random_twins()
    for ours, theirs in zip((*twins.convs, twins.norm), (*other.convs, other.norm), strict=True):
        theirs.load_state_dict(ours.state_dict())
    assert torch.equal(branches(twins, x)[0], branches(other, x)[0])


def test_the_constant_bias_is_stored_but_never_trained() -> None:
    conv = MergedConv2d(nn.Conv2d(2, 3, 3, 2, 1, 1))
    assert set(conv.state_dict()) == {"weight", "bias"} and [name for name, _ in conv.named_parameters()] == ["weight"]
    conv.bias.fill_(5)
    assert conv(torch.zeros(1, 2, 4, 4)).unique().tolist() == [5]


def test_a_channel_takes_one_branch_or_the_mean() -> None:
    mixture = Mixture(lambda channels: torch.tensor([0.0, 0.32, 0.34, 0.65, 0.67, 0.99])[:channels])
    first, second = torch.full((2, 6, 1, 2), 1.0), torch.full((2, 6, 1, 2), 5.0)
    mixed = mixture(first, second)
    assert mixed[0, :, 0, 0].tolist() == [1, 1, 5, 5, 3, 3]
    assert torch.equal(mixed[0], mixed[1]) and torch.equal(mixed[..., 0], mixed[..., 1])
    assert mixture.eval()(first, second).unique().tolist() == [3]


def test_draws_are_even_thirds() -> None:
    torch.manual_seed(0)
    mixed = Mixture()(torch.zeros(1, 30000, 1, 1), torch.ones(1, 30000, 1, 1))
    shares = [(mixed == value).float().mean().item() for value in (0.0, 1.0, 0.5)]
    assert shares == pytest.approx([0.33, 0.33, 0.34], abs=0.01)
