"""A method looks the same in every figure, whatever else is in it."""

from __future__ import annotations

import itertools

import pytest

from model.methods import registry
from model.reporting.styles import COLORS, MARKERS, method_styles

KNOWN = sorted({name for family in ("per-pixel", "mask") for name in registry.known(family)})


def test_bounds_stand_out_and_methods_differ() -> None:
    styles = method_styles(["finetuning", "joint", "simcis-joint", *(f"method{i:02d}" for i in range(60))])
    assert styles["joint"].line == styles["simcis-joint"].line == "--" and styles["finetuning"].line == ":"
    looks = [(s.color, s.marker, s.line) for s in styles.values()]
    assert len(set(looks)) == len(looks) == 63


def test_every_method_of_segue_has_a_place_of_its_own() -> None:
    styles = method_styles(KNOWN)
    assert len(set(styles.values())) == len(styles) == len(KNOWN)
    assert method_styles(["mib", "something-new"])["mib"] == styles["mib"] == method_styles(["mib"])["mib"]


@pytest.mark.parametrize("name", KNOWN)
def test_a_known_method_looks_the_same_alone_and_with_all_others(name: str) -> None:
    strangers = [f"variant-{i}" for i in range(20)]
    assert method_styles([name])[name] == method_styles([*KNOWN, *strangers])[name]


def test_an_unknown_method_keeps_its_look_beside_known_ones_that_have_another() -> None:
    alone = method_styles(["mib-stronger"])["mib-stronger"]
    others = [name for name in KNOWN if method_styles([name])[name] != alone]
    assert method_styles(["mib-stronger", *others])["mib-stronger"] == alone


def test_methods_that_are_compared_differ_in_colour() -> None:
    for compared in (
        ["mib", "lwf", "finetuning-replay", "ilt", "plop", "lwf-mc", "finetuning", "joint"],
        ["balconpas", "balconpas-r", "comformer", "eclipse", "simcis", "finetuning", "joint"],
    ):
        styles = method_styles(compared)
        assert all(styles[a].color != styles[b].color for a, b in itertools.combinations(compared, 2))
    assert len(set(COLORS)) == len(set(MARKERS)) == 7


@pytest.mark.parametrize("name", ["mib", "joint", "finetuning", "a-method-of-mine"])
def test_variants_of_a_method_differ_from_each_other_and_a_single_one_looks_like_the_method(name: str) -> None:
    variants = [*(f"{name} ({folder})" for folder in ("mine", "yours")), *(f"{name}@weight={w}" for w in range(6))]
    styles = method_styles([*variants, "plop"])
    looks = [(styles[variant].color, styles[variant].marker) for variant in variants]
    assert len(set(looks)) == len({color for color, _ in looks}) == len(variants) and set(styles) >= {*variants}
    assert method_styles([variants[3]])[variants[3]] == method_styles([name])[name]
    assert (
        method_styles([name, variants[3]])[name]
        == method_styles([name])[name]
        != method_styles([name, variants[3]])[variants[3]]
    )
