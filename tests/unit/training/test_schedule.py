from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.training.schedule import Poly, ScheduleError


def test_poly_values():
    schedule = Poly(iterations=100)
    assert schedule(0) == 1.0
    assert schedule(50) == pytest.approx(0.5**0.9)
    assert schedule(99) == pytest.approx(0.01**0.9)
    assert schedule(100) == 0.0


def test_the_warm_up_multiplies_a_decay_that_runs_from_the_start():
    schedule = Poly(iterations=1000, warmup_fraction=0.2, warmup_factor=0.001)
    assert schedule(0) == pytest.approx(0.001)
    assert schedule(100) == pytest.approx((0.001 * 0.5 + 0.5) * 0.9**0.9)
    assert schedule(200) == pytest.approx(0.8**0.9)
    assert schedule(600) == Poly(iterations=1000)(600)


@given(iterations=st.integers(2, 500), power=st.floats(0.1, 3), fraction=st.floats(0, 0.9))
def test_after_the_warm_up_the_factor_never_rises(iterations, power, fraction):
    schedule = Poly(iterations, power, fraction, 0.001)
    factors = [schedule(i) for i in range(iterations)]
    assert all(0 <= factor <= 1 for factor in factors)
    tail = factors[int(fraction * iterations) + 1 :]
    assert all(a >= b for a, b in pairwise(tail))


@pytest.mark.parametrize(
    "arguments", [{"iterations": 0}, {"iterations": 9, "power": -1}, {"iterations": 9, "warmup_fraction": 1.5}]
)
def test_impossible_schedules_are_refused(arguments):
    with pytest.raises(ScheduleError):
        Poly(**arguments)
