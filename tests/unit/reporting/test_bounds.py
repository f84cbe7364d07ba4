"""Upper and lower bound are known by name, whichever folder a comparison took them from."""

import pytest

from model.reporting.bounds import is_upper_bound, method_order


@pytest.mark.parametrize(
    ("method", "bound"),
    [("joint", True), ("simcis-joint", True), ("joint (yours)", True), ("mib", False), ("mib (joint)", False)],
)
def test_an_upper_bound_is_known_by_its_name(method, bound):
    assert is_upper_bound(method) is bound


def test_bounds_of_all_folders_stand_at_the_ends():
    methods = ["finetuning (a)", "mib (b)", "joint (b)", "mib (a)", "joint (a)", "finetuning (b)"]
    ordered = ["joint (a)", "joint (b)", "mib (a)", "mib (b)", "finetuning (a)", "finetuning (b)"]
    assert method_order(methods) == ordered


def test_values_of_a_sweep_make_no_other_method_of_a_bound():
    assert is_upper_bound("joint@object-threshold=0.5") and is_upper_bound("simcis-joint@weight=1")
    assert method_order(["mib", "finetuning@x=1", "joint@x=1"]) == ["joint@x=1", "mib", "finetuning@x=1"]
