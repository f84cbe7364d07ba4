"""Names that stand for ``module:attribute``, and the arguments that a configuration gives to what they stand for."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from pydantic import Field

from model.common.registry import Registry, checked_arguments


class WrongError(ValueError):
    """The error of the registries under test."""


@dataclass(frozen=True)
class Thing:
    """With every type that configurations give."""

    size: Annotated[int, Field(ge=1)]
    weight: float = 1.0
    pair: tuple[int, float] = (1, 0.5)
    flag: bool = False
    mode: Literal["a", "b"] = "a"
    more: int | None = None


class Built:
    """A class that is no dataclass, as networks are."""

    def __init__(self, classes: Sequence[int], *, size: Annotated[int, Field(ge=1)] = 3) -> None:
        self.classes, self.size = classes, size


THINGS = Registry("thing", {"thing": f"{__name__}:Thing", "made": f"{__name__}:make"}, WrongError, "option")
BUILT = Registry("network", {"built": f"{__name__}:Built"}, WrongError, given=1)


def make(size: int = 2) -> Thing:
    return Thing(size)


def test_a_name_is_resolved_when_asked_and_not_before():
    registry = Registry("thing", {"there": f"{__name__}:Thing", "gone": "no_such_module:Thing"}, WrongError)
    assert registry.known == ("gone", "there")
    assert registry.module_of("gone") == "no_such_module"
    assert registry.resolve("there") is Thing
    with pytest.raises(ModuleNotFoundError):
        registry.resolve("gone")


@pytest.mark.parametrize("name", ["thign", "Thing", "os:system", "", ":", "no_such_module:Thing"])
def test_only_names_of_the_table_are_known(name):
    for use in (THINGS.module_of, THINGS.resolve, lambda name: THINGS.build(name, {})):
        with pytest.raises(WrongError, match=f"^unknown thing '{name}'; "):
            use(name)


def test_an_open_registry_also_takes_what_is_named_by_its_module():
    opened = Registry("thing", THINGS.rows, WrongError, open=True)
    path = f"{__name__}:Thing"
    assert opened.resolve(path) is Thing and opened.module_of(path) == __name__
    assert opened.build(path, {"size": 2}) == Thing(2)
    for name in ("thign", ":", ":Thing", f"{__name__}:"):
        with pytest.raises(WrongError, match=r"^unknown thing"):
            opened.resolve(name)
    for name, reason in (("no_such_module:Thing", "No module named"), (f"{__name__}:Thin", "has no attribute 'Thin'")):
        with pytest.raises(WrongError, match=f"^thing '{name}' cannot be imported: .*{reason}"):
            opened.resolve(name)


def test_values_of_a_configuration_become_those_of_the_types():
    built = THINGS.build("thing", {"size": 4, "weight": 2, "pair": [3, 1], "more": 5})
    assert built == Thing(4, 2.0, (3, 1.0), more=5)
    assert type(built.weight) is float and type(built.pair) is tuple
    assert THINGS.build("made", {}) == Thing(2)
    network = BUILT.build("built", {"size": 7}, [2, 1])
    assert (network.classes, network.size) == ([2, 1], 7)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 1, "wieght": 2}, "thing 'thing' has no option 'wieght'; did you mean 'weight'?"),
        ({"sise": 1}, "thing 'thing' has no option 'sise'; did you mean 'size'?"),
        ({"weight": 1}, "thing 'thing' needs the option 'size'"),
        ({"size": "4"}, "option 'size' of thing 'thing' is '4': input should be a valid integer"),
        ({"size": 4.5}, "option 'size' of thing 'thing' is 4.5: input should be a valid integer"),
        ({"size": 1.0e9}, "option 'size' of thing 'thing' is 1000000000.0: input should be a valid integer"),
        ({"size": True}, "option 'size' of thing 'thing' is True: input should be a valid integer"),
        ({"size": None}, "option 'size' of thing 'thing' is None: input should be a valid integer"),
        ({"size": 0}, "option 'size' of thing 'thing' is 0: input should be greater than or equal to 1"),
        ({"size": 1, "flag": 1}, "option 'flag' of thing 'thing' is 1: input should be a valid boolean"),
        ({"size": 1, "mode": "c"}, "option 'mode' of thing 'thing' is 'c': input should be 'a' or 'b'"),
        (
            {"size": 1, "weight": float("nan")},
            "option 'weight' of thing 'thing' is nan: expected a finite, plain value",
        ),
        (
            {"size": 1, "weight": float("inf")},
            "option 'weight' of thing 'thing' is inf: expected a finite, plain value",
        ),
        (
            {"size": datetime.date(2024, 1, 2)},
            "option 'size' of thing 'thing' is datetime.date(2024, 1, 2): expected a finite, plain value",
        ),
        ({"size": b"48"}, "option 'size' of thing 'thing' is b'48': expected a finite, plain value"),
        ({"size": {4}}, "option 'size' of thing 'thing' is {4}: expected a finite, plain value"),
    ],
)
def test_what_is_wrong_with_an_argument_is_one_line(values, message):
    with pytest.raises(WrongError) as caught:
        THINGS.build("thing", values)
    assert str(caught.value) == message


def test_a_long_value_is_cut_short():
    with pytest.raises(WrongError) as caught:
        THINGS.check("thing", {"size": "x" * 10_000})
    assert len(str(caught.value)) < 200


def test_arguments_given_by_the_maker_are_none_of_the_configuration():
    with pytest.raises(WrongError, match="network 'built' has no argument 'classes'; known: size"):
        BUILT.build("built", {"classes": [1]}, [2])
    assert checked_arguments(Built, {"size": 2}, WrongError, "it", given=1) == {"size": 2}
