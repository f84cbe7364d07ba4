"""The golden framework itself: the filling rule, the measure of difference, skip and failure."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from torch import nn

pytest_plugins = ["pytester"]


def draw(key: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape)


@pytest.mark.parametrize(
    ("key", "shape", "expected"),
    [
        ("a.bn.running_var", (4,), lambda x: 1 + 0.2 * np.abs(x)),
        ("a.bn.running_mean", (4,), lambda x: 0.1 * x),
        ("a.sampling_offsets.bias", (4,), lambda x: x),
        ("res2.0.conv3.norm.weight", (4,), lambda x: 0.2 * (1 + 0.1 * x)),
        ("a.norm.weight", (4,), lambda x: 1 + 0.1 * x),
        ("a.conv.weight", (4, 3, 2, 2), lambda x: x * np.sqrt(2 / 12)),
        ("a.linear.weight", (4, 3), lambda x: x * np.sqrt(1 / 3)),
        ("level_embed", (3, 4), lambda x: x),
    ],
)
def test_filling_rule(key, shape, expected) -> None:
    np.testing.assert_array_equal(golden.weight(key, shape), expected(draw(key, shape)).astype(np.float32))


def test_fill_uses_full_keys_and_leaves_integers_alone() -> None:
    module = nn.BatchNorm2d(3)
    golden.fill(module, prefix="x.")
    np.testing.assert_array_equal(module.running_var.numpy(), golden.weight("x.running_var", (3,)))
    assert module.num_batches_tracked == 0


def test_difference_is_relative_to_the_largest_recorded_value() -> None:
    assert golden.difference(torch.tensor([100.0, 1.0]), np.array([100.0, 2.0])) == pytest.approx(0.01)
    assert golden.difference([1e-3], [2e-3]) == pytest.approx(1e-3)
    assert golden.difference([1e-3], [2e-3], floor=0.0) == pytest.approx(0.5)
    assert golden.difference([np.nan], [1.0]) == float("inf")
    assert golden.difference([1.0], [np.nan]) == float("inf")
    assert golden.difference([np.nan, 1.0], [np.nan, 1.0]) == 0.0


def test_shapes_must_agree() -> None:
    with pytest.raises(AssertionError, match="shape"):
        golden.difference(np.zeros(1), np.zeros((1, 1)))


def test_unpack_bits() -> None:
    mask = np.random.default_rng(0).random((3, 5)) > 0.5
    np.testing.assert_array_equal(golden.unpack_bits(np.packbits(mask), (3, 5)), mask)


def test_a_group_without_cases_gives_one_marked_parameter() -> None:
    (parameter,) = golden.cases("no such group")
    assert [mark.name for mark in parameter.marks] == ["golden_missing"]


def test_cases_are_chosen_by_what_they_hold(tmp_path, monkeypatch) -> None:
    contents = {"a": {"arrays": {"logits": {}}, "config": {}}, "b": {"arrays": {"points": {}}, "config": {"scale": 2}}}
    for name, document in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(document), encoding="utf-8")
    found = tuple(golden.Case("z_made_up", name, tmp_path / f"{name}.json") for name in contents)
    monkeypatch.setattr(golden, "index", lambda: found)
    chosen = {
        patterns: [parameter.id for parameter in golden.cases_holding("z_made_up", *patterns)]
        for patterns in [("logits",), ("points", "scale"), ("!logits",), ("points", "logits")]
    }
    assert list(chosen.values()) == [["a"], ["b"], ["b"], ["no-case"]]


@pytest.mark.parametrize(("flag", "outcome"), [("0", "skipped"), ("1", "errors")])
def test_absence_is_a_skip_or_a_failure(pytester, monkeypatch, flag, outcome) -> None:
    monkeypatch.delenv("SEGUE_GOLDEN", raising=False)
    monkeypatch.setenv("SEGUE_REQUIRE_GOLDEN", flag)
    here = Path(golden.__file__).parent
    monkeypatch.setenv("PYTHONPATH", str(here))
    pytester.makeconftest((here / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        test_group="""
        import pytest
        from golden import cases

        @pytest.mark.parametrize("case", cases("g_anything"))
        def test_it(case):
            assert case is not None
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(**{outcome: 1})


def test_every_gap_of_the_index_is_a_failure(pytester, monkeypatch) -> None:
    """A group that nobody knows, a tested group still listed as pending, and a case that no test takes."""
    here, data = Path(golden.__file__).parent, pytester.mkdir("data")
    known, finished, partly = sorted(golden.TOLERANCES)[:3]
    rows = [("z_new", "a"), (known, "a"), (finished, "a"), (partly, "a"), (partly, "b")]
    content = [{"group": group, "case": case, "file": f"{group}/{case}.json"} for group, case in rows]
    (data / "index.json").write_text(json.dumps(content), encoding="utf-8")
    for name in ("conftest", "golden", "test_index"):
        pytester.path.joinpath(f"{name}.py").write_text((here / f"{name}.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        pending=f"PENDING = {{{known!r}: 'later', {finished!r}: 'later'}}",
        **{
            f"test_{finished}": f"from golden import cases\ncases({finished!r})",
            f"test_{partly}": f"from golden import cases\ncases({partly!r}, 'a')",
        },
    )
    monkeypatch.setenv("SEGUE_GOLDEN", str(data))
    selection = "test_index.py::test_every_case_of_the_group_is_tested"
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider", selection)
    result.assert_outcomes(failed=3, xfailed=1)
    text = result.stdout.str()
    assert "[XPASS(strict)] later" in text
    assert "not tested: ['b']" in text
    assert "group z_new has no test_z_new.py" in text
