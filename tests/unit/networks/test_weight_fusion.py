"""Averages of two states of a network."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.networks.weight_fusion import FusionError, balanced_weight, fuse


def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    old = {"conv.weight": torch.randn(4, 3, generator=generator), "bn.running_var": torch.rand(3, generator=generator)}
    new = {key: torch.randn(value.shape, generator=generator) for key, value in old.items()}
    old["bn.num_batches_tracked"], new["bn.num_batches_tracked"] = torch.tensor(5), torch.tensor(9)
    return old, {**new, "cls.1.weight": torch.randn(2, 3, generator=generator)}


def test_the_ends_are_the_two_states() -> None:
    """A weight of 1 is the host method; a weight of 0 the old network with the new classifier."""
    old, new = states()
    kept, undone = fuse(old, new, 1.0), fuse(old, new, 0.0)
    assert all(torch.equal(kept[key], new[key]) for key in new)
    counters = ("bn.num_batches_tracked", "cls.1.weight")
    assert all(torch.equal(undone[key], new[key] if key in counters else old[key]) for key in new)


@given(new=st.integers(1, 200), old=st.integers(1, 200))
def test_the_weight_lies_between_and_falls_with_what_is_known(new: int, old: int) -> None:
    assert 0 < balanced_weight(new, old + 1) < balanced_weight(new, old) < 1
    assert balanced_weight(new, old) ** 2 == pytest.approx(new / (new + old))


def test_only_the_most_moved_are_averaged() -> None:
    old = {"a": torch.zeros(4), "b": torch.zeros(4)}
    new = {"a": torch.tensor([1.0, -8.0, 3.0, 4.0]), "b": torch.tensor([-5.0, 6.0, 7.0, 2.0])}
    fused = fuse(old, new, 0.5, moved_share=0.45)  # int(3.6) = 3 of 8
    assert fused["a"].tolist() == [1, -4, 3, 4] and fused["b"].tolist() == [-5, 3, 3.5, 2]
    assert fuse(old, new, 0.5, moved_share=0.1)["a"].tolist() == new["a"].tolist()  # int(0.8) = none
    assert torch.equal(fuse(old, new, 0.5, moved_share=1.0)["b"], new["b"] / 2)


def test_nothing_given_is_changed() -> None:
    old, new = states()
    before = {key: value.clone() for key, value in new.items()}
    fuse(old, new, 0.3)["cls.1.weight"].zero_()
    assert all(torch.equal(new[key], value) for key, value in before.items())


@pytest.mark.parametrize(
    ("change", "weight", "message"),
    [
        (
            lambda new: new.pop("conv.weight"),
            0.5,
            r"'conv.weight' of the old state is \(4, 3\), but missing in the new",
        ),
        (lambda new: new.update({"conv.weight": torch.zeros(4)}), 0.5, r"is \(4, 3\), but \(4,\) in the new one"),
        (lambda new: None, 1.5, "the weight of a fusion must be between 0 and 1, not 1.5"),
    ],
)
def test_states_that_do_not_fit(change, weight, message) -> None:
    old, new = states()
    change(new)
    with pytest.raises(FusionError, match=message):
        fuse(old, new, weight)


def test_a_weight_needs_classes() -> None:
    with pytest.raises(FusionError, match="0 new classes"):
        balanced_weight(0, 3)
