"""Fingerprints: what changes them is what changes a result."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.common import fingerprints as provenance

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), PLAIN))
def test_canonical_json_ignores_the_order_of_keys_and_loses_nothing(value):
    backwards = dict(reversed(list(value.items())))
    assert provenance.canonical_json(value) == provenance.canonical_json(backwards)
    assert json.loads(provenance.canonical_json(value)) == value


def test_canonical_json_refuses_what_json_cannot_say():
    with pytest.raises(ValueError):
        provenance.canonical_json({"learning_rate": float("nan")})


@pytest.fixture
def project(tmp_path):
    """A project with an entry that imports a loss, and a method that nothing imports."""
    package = tmp_path / "model"
    for folder in (package, package / "losses", package / "methods"):
        folder.mkdir()
        (folder / "__init__.py").write_text("")
    (tmp_path / "entry.py").write_text('"""Entry."""\nfrom model.losses.kd import kd\n\nprint(kd(1))\n')
    (package / "losses" / "kd.py").write_text('def kd(x):\n    """Doc."""\n    return 2 * x  # twice\n')
    (package / "losses" / "other.py").write_text("x = 1\n")
    (package / "methods" / "lwf.py").write_text("from model.losses.kd import kd\n")
    return tmp_path


def fingerprint(project, *entries):
    """A fingerprint as a new process would compute it: files are read once per process."""
    for function in (
        provenance._syntax,
        provenance._imports,
        provenance._file_fingerprint,
    ):
        function.cache_clear()
    return provenance.combined_fingerprint(provenance.module_fingerprints([project / "entry.py", *entries], project))


@pytest.mark.parametrize(
    "text",
    [
        'def kd(x):\n    """Another text."""\n    return 2 * x\n',
        "def kd(\n    x,\n):\n    return 2 * x\n",
        "# a comment\n\n\ndef kd(x):\n    return (2 * x)\n",
    ],
    ids=["docstring", "layout", "comment"],
)
def test_what_does_not_run_does_not_count(project, text):
    before = fingerprint(project)
    (project / "model/losses/kd.py").write_text(text)
    assert fingerprint(project) == before


def test_a_changed_expression_counts(project):
    before = fingerprint(project)
    (project / "model/losses/kd.py").write_text("def kd(x):\n    return 3 * x\n")
    assert fingerprint(project) != before


def test_a_file_outside_the_closure_does_not_count(project):
    before = fingerprint(project)
    (project / "model/losses/other.py").write_text("x = 2\n")
    (project / "model/methods/lwf.py").write_text("y = 2\n")
    assert fingerprint(project) == before


def test_a_method_named_explicitly_counts(project):
    before = fingerprint(project, "model.methods.lwf")
    (project / "model/methods/lwf.py").write_text("y = 2\n")
    assert fingerprint(project, "model.methods.lwf") != before


def test_packages_on_the_way_count(project):
    before = fingerprint(project)
    (project / "model/losses/__init__.py").write_text("scale = 2\n")
    assert fingerprint(project) != before


def test_imports_inside_functions_count_and_those_for_type_checkers_do_not(project):
    (project / "entry.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import model.losses.other\n"
        "def late():\n    import model.methods.lwf\n"
    )
    closure = {f.relative_to(project).as_posix() for f in provenance.import_closure([project / "entry.py"], project)}
    assert "model/methods/lwf.py" in closure
    assert "model/losses/other.py" not in closure


def test_the_modules_that_changed_can_be_named(project):
    entry = [project / "entry.py"]
    before = provenance.module_fingerprints(entry, project)
    assert set(before) == {"entry", "model", "model.losses", "model.losses.kd"}
    (project / "model/losses/kd.py").write_text("def kd(x):\n    return 3 * x\n")
    fingerprint(project)  # as a new process would read
    after = provenance.module_fingerprints(entry, project)
    assert {name for name in before if before[name] != after[name]} == {"model.losses.kd"}


def test_a_package_that_is_not_tracked_is_left_out_with_all_its_modules(project):
    closure = provenance.import_closure([project / "entry.py"], project, untracked={"model.losses"})
    assert {file.relative_to(project).as_posix() for file in closure} == {"entry.py", "model/__init__.py"}


def test_a_module_from_outside_counts_with_its_whole_package_and_what_this_imports(
    project, monkeypatch, tmp_path_factory
):
    place = tmp_path_factory.mktemp("installed")
    package = place / "my_package"
    package.mkdir()
    for name, text in (("__init__", ""), ("method", "from .helper import x\n"), ("helper", "x = 1\n")):
        (package / f"{name}.py").write_text(text)
    (place / "my_module.py").write_text("from model.losses.other import x\n")
    monkeypatch.syspath_prepend(str(place))
    names = set(provenance.module_fingerprints(["my_package.method", "my_module"], project))
    assert names == {
        *("my_package", "my_package.method", "my_package.helper", "my_module"),
        *("model", "model.losses", "model.losses.other"),
    }
    before = fingerprint(project, "my_package.method")
    (package / "helper.py").write_text("x = 1  # the same\n")
    assert fingerprint(project, "my_package.method") == before
    (package / "helper.py").write_text("x = 2\n")
    assert fingerprint(project, "my_package.method") != before


def test_an_unknown_entry_is_named(project):
    with pytest.raises(FileNotFoundError, match=r"model\.nothing"):
        provenance.import_closure(["model.nothing"], project)


def test_the_training_entry_knows_no_method_and_no_network():
    names = {f.relative_to(provenance.PROJECT).as_posix() for f in provenance.import_closure(["model.training.job"])}
    assert "model/training/loop.py" in names
    allowed = {"model/methods/__init__.py", "model/methods/base.py", "model/methods/errors.py"}
    assert {n for n in names if n.startswith("model/methods/")} <= allowed
    assert not any(n.startswith("model/losses/") for n in names - {"model/losses/__init__.py"})
    assert not any(n.startswith("model/networks/deeplabv3") for n in names)
    assert "model/config/schema.py" not in names and "model/workflow/plan.py" not in names


def test_tables_that_a_module_reads_count(project):
    (project / "model/losses/kd_classes.csv").write_text("1,wall\n")
    before = fingerprint(project)
    (project / "model/losses/kd_classes.csv").write_text("1,floor\n")
    assert fingerprint(project) != before


@pytest.mark.parametrize("value", [{"note": "</script><script>alert(1)</script>"}, ["a & b", "\u2028"], {"<": 1}])
def test_canonical_json_ends_no_script_that_it_stands_in(value: object) -> None:
    text = provenance.canonical_json(value)
    assert not set("<>&\u2028") & set(text) and json.loads(text) == value
