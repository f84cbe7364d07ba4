import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.training.seeds import configure_numerics, seed_everything, sub_seed


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


def test_equal_seeds_repeat_every_generator():
    seed_everything(5)
    first = draws()
    seed_everything(5)
    assert draws() == first
    seed_everything(6)
    second = draws()
    assert all(a != b for a, b in zip(first, second, strict=True))


@given(st.integers(0, 2**40), st.integers(0, 30))
def test_sub_seeds_fit_and_differ_by_purpose_step_and_seed(seed, step):
    seeds = {
        sub_seed(seed, "sampling", step),
        sub_seed(seed, "initialisation", step),
        sub_seed(seed, "sampling", step + 1),
        sub_seed(seed + 1, "sampling", step),
    }
    assert len(seeds) == 4
    assert all(0 <= s < 2**63 for s in seeds)
    assert sub_seed(seed, "sampling", step) in seeds


def test_seed_and_step_do_not_trade_places():
    assert sub_seed(1, "sampling", 2) != sub_seed(2, "sampling", 1)


def test_negative_seeds_are_refused():
    with pytest.raises(ValueError, match="count from 0"):
        sub_seed(-1, "sampling")


def test_cpu_numerics_are_deterministic_and_use_the_recipe_threads():
    configure_numerics(torch.device("cpu"), threads=1)
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1
    configure_numerics(torch.device("cuda"))
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == 1


def test_tensorfloat_is_allowed_only_where_the_recipe_asks_for_it():
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for asked in (True, False):
            configure_numerics(torch.device("cuda"), tf32=asked)
            assert [backend.allow_tf32 for backend in backends] == [asked, asked]
        torch.backends.cudnn.allow_tf32 = True
        configure_numerics(torch.device("cuda"))
        assert not torch.backends.cudnn.allow_tf32
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
