from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.loading.sampling import BatchPlan, SamplingError


def items(plan: BatchPlan, start: int, stop: int) -> list[list[int]]:
    return [[draw.item for draw in batch] for batch in plan.batches(start, stop)]


@given(images=st.integers(1, 40), exemplars=st.integers(0, 10), batch_size=st.integers(1, 12), seed=st.integers(0, 99))
def test_an_epoch_holds_no_item_twice_and_misses_less_than_a_batch(
    images: int, exemplars: int, batch_size: int, seed: int
) -> None:
    plan = BatchPlan(images, exemplars, batch_size, seed)
    epoch = [item for batch in items(plan, 0, plan.batches_per_epoch) for item in batch]
    if images + exemplars >= batch_size:
        assert len(set(epoch)) == len(epoch) > images + exemplars - batch_size
    else:  # fewer items than places: filled up with whole further passes
        counts = Counter(epoch)
        assert len(epoch) == batch_size and set(counts) == set(range(images + exemplars))
        assert max(counts.values()) - min(counts.values()) <= 1


@given(start=st.integers(0, 30), seed=st.integers(0, 9), mixing=st.sampled_from(["concatenate", "half-batch"]))
def test_starting_later_gives_the_same_batches(start: int, seed: int, mixing: str) -> None:
    def plan() -> BatchPlan:
        return BatchPlan(13, 5, 4, seed, mixing)  # type: ignore[arg-type]

    assert list(plan().batches(0, 40))[start:] == list(plan().batches(start, 40))


def test_epochs_and_seeds_differ() -> None:
    plan = BatchPlan(50, 0, 10, seed=1)
    assert items(plan, 0, 5) != items(plan, 5, 10)
    assert items(plan, 0, 5) != items(BatchPlan(50, 0, 10, seed=2), 0, 5)


def test_draws_of_one_run_never_repeat_a_random_stream() -> None:
    draws = [(draw.epoch, draw.place) for batch in BatchPlan(10, 0, 4, 0).batches(0, 20) for draw in batch]
    assert len(set(draws)) == len(draws)


def test_half_of_every_batch_is_replaced_at_random_places() -> None:
    plan = BatchPlan(40, 6, 8, seed=0, replay_mixing="half-batch")
    assert plan.batches_per_epoch == 5
    batches = items(plan, 0, 60)
    assert all(sum(item >= 40 for item in batch) == 4 for batch in batches)
    places = Counter(place for batch in batches for place, item in enumerate(batch) if item >= 40)
    assert len(places) == 8 and max(places.values()) < 60
    exemplars = Counter(item for batch in batches for item in batch if item >= 40)
    assert set(exemplars.values()) == {40}  # 240 places go round 6 exemplars


@pytest.mark.parametrize("mixing", ["concatenate", "half-batch"])
def test_devices_share_the_batches_of_one(mixing: str) -> None:
    plan = BatchPlan(30, 4, 6, 3, mixing)  # type: ignore[arg-type]
    parts = [list(plan.batches(0, 9, rank, 3)) for rank in range(3)]
    assert [sum(shares, ()) for shares in zip(*parts, strict=True)] == list(plan.batches(0, 9))
    with pytest.raises(SamplingError, match="6 cannot be shared by 4"):
        list(plan.batches(0, 1, 0, 4))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 0, 4, 0), "no image"),
        ((5, 0, 0, 0), "batch of 0"),
        ((5, 2, 1, 0, "half-batch"), "no half"),
        ((5, 2, 4, 0, "quarter"), "'quarter' does not exist"),
    ],
)
def test_impossible_plans_are_named(arguments: tuple, message: str) -> None:
    with pytest.raises(SamplingError, match=message):
        BatchPlan(*arguments)


@given(kinds=st.lists(st.booleans(), min_size=1, max_size=40), batch_size=st.integers(1, 8), seed=st.integers(0, 99))
def test_batches_are_of_one_kind_but_for_what_is_left_over(kinds: list[bool], batch_size: int, seed: int) -> None:
    plan, mixed = (
        BatchPlan(len(kinds), 0, batch_size, seed, kinds=given_kinds) for given_kinds in (tuple(kinds), None)
    )
    assert plan.batches_per_epoch == mixed.batches_per_epoch
    epochs = [items(plan, k * plan.batches_per_epoch, (k + 1) * plan.batches_per_epoch) for k in (0, 1)]
    for epoch in epochs:
        drawn = [item for batch in epoch for item in batch]
        if len(kinds) >= batch_size:
            assert len(set(drawn)) == len(drawn) > len(kinds) - batch_size
        pure = sum(len({kinds[item] for item in batch}) == 1 for batch in epoch)
        assert pure >= sum(kinds) // batch_size + (len(kinds) - sum(kinds)) // batch_size
    assert items(plan, 0, 3 * plan.batches_per_epoch)[plan.batches_per_epoch : 2 * plan.batches_per_epoch] == epochs[1]
