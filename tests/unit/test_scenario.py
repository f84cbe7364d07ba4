"""Scenarios: names, explicit lists, groups; what cannot be built says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.scenario import Scenario, ScenarioError, class_groups


def test_a_name_cuts_the_natural_order_into_a_base_and_equal_increments():
    scenario = Scenario.from_name("15-1", range(1, 21))
    assert [len(classes) for classes in scenario.increments] == [15, 1, 1, 1, 1, 1]
    assert scenario.step(2).past == tuple(range(1, 17))
    assert scenario.step(2).current == (17,)


def test_the_total_comes_from_the_classes_and_not_from_the_name():
    assert len(Scenario.from_name("50-50", range(150))) == 3
    assert len(Scenario.from_name("50-50", range(100))) == 2


def test_a_letter_chooses_a_class_order():
    order = [3, 1, 2, 0]
    assert Scenario.from_name("2-1b", range(4), {"b": order}).increments == ((3, 1), (2,), (0,))


def test_joint_is_one_step_whatever_the_order():
    assert Scenario.from_name("joint", [3, 1, 2]).increments == ((1, 2, 3),)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("15-3", "is not a multiple of 3"),
        ("25-1", "there are 20 classes, but the base step asks for 25"),
        ("21-20", "there are 20 classes, but the base step asks for 21"),
        ("10-0", "has a step without a class"),
        ("0-10", "has a step without a class"),
        ("fifteen-one", "base-increment"),
        ("15-1x", "no class order 'x'"),
    ],
)
def test_an_impossible_name_says_why(name, expected):
    with pytest.raises(ScenarioError, match=expected):
        Scenario.from_name(name, range(1, 21))


def test_a_class_learnt_twice_is_named():
    with pytest.raises(ScenarioError, match=r"class 2 is learnt twice \(again in step 1\)"):
        Scenario("mine", ((1, 2), (2, 3)))


def test_an_empty_step_is_named():
    with pytest.raises(ScenarioError, match="step 1 has no class"):
        Scenario("mine", ((1, 2), ()))


@given(st.data())
def test_groups_partition_what_is_known(data):
    total = data.draw(st.integers(2, 40))
    base = data.draw(st.integers(1, total - 1))
    increment = data.draw(st.sampled_from([n for n in range(1, total - base + 1) if (total - base) % n == 0]))
    order = data.draw(st.permutations(range(total)))
    scenario = Scenario.from_name(f"{base}-{increment}z", range(total), {"z": order})
    for index in range(len(scenario)):
        groups = class_groups(scenario, index)
        assert groups["old"] + groups["new"] == groups["all"] == groups["past"] + groups["current"]
        assert groups["old"] == tuple(order[:base])
        assert len(set(groups["all"])) == len(groups["all"])
    assert sorted(class_groups(scenario, scenario.last)["all"]) == list(range(total))
