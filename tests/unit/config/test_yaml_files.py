"""Opening YAML: what cannot be read, is ambiguous or holds odd values is one line that names file and place."""

from pathlib import Path

import pytest

from model.config.messages import ConfigError
from model.config.reading import load_config, parse_config
from model.config.yaml_files import check_plain, read_yaml


def problem(file: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_yaml(file)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nb: 2\na: 3\n", "line 3: key 'a' is in line 1 as well; remove one of them"),
        ("a:\n  - c: 1\n    d: 2\n    c: 1\n", "line 4: key 'c' is in line 2 as well; remove one of them"),
        ("a: {1: x, 2: y, 1: z}\n", "line 1: key '1' is in line 1 as well; remove one of them"),
        ("a: [1,\nb: 2\n", "line 3, column 1: not valid YAML: "),
        ("a:\n\t- b\n", "line 2, column 1: not valid YAML: "),
        ("a: b: c\n", "line 1, column 5: not valid YAML: mapping values are not allowed here"),
        ("x: 1\na: 2024-13-45\n", "line 2, column 4: not valid YAML: month must be in 1..12"),
        ("? [a]\n: 1\n", "line 1, column 3: not valid YAML: "),
        ("- 1", "expected keys and values, found list"),
        ("", "expected keys and values, found NoneType"),
        ("a: " + "[" * 3000, "nested too deeply"),
    ],
)
def test_what_is_no_mapping_of_unique_keys_is_told_with_its_place(tmp_path, text, expected):
    file = tmp_path / "some.yaml"
    file.write_text(text)
    message = problem(file)
    assert message.startswith(f"{file}: {expected}")
    assert len(message.splitlines()) == 1


def test_files_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / "latin.yaml").write_bytes("a: ä".encode("latin-1"))
    assert problem(tmp_path / "none.yaml") == f"{tmp_path}/none.yaml: no such file; check the path"
    assert problem(tmp_path).startswith(f"{tmp_path}: is a directory")
    assert problem(tmp_path / "latin.yaml").startswith(f"{tmp_path}/latin.yaml: not UTF-8 text")


def test_merged_keys_may_be_overridden_and_a_mark_of_the_byte_order_does_not_matter(tmp_path):
    file = tmp_path / "some.yaml"
    file.write_bytes("\ufeffa: &one {k: 1, l: 2}\nb: {<<: *one, k: 3}\n".encode())
    assert read_yaml(file) == {"a": {"k": 1, "l": 2}, "b": {"k": 3, "l": 2}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-01-02", "is a date"),
        ("2024-01-02 03:04:05", "is a time"),
        ("!!binary aGFsbG8=", "is binary data"),
        ("!!set {a, b}", "is a set"),
        (".inf", "is inf; expected a finite number"),
        ("-.inf", "is -inf; expected a finite number"),
        (".nan", "is nan; expected a finite number"),
        ("{yes: 1}", "key True is neither text nor an integer; put it in quotes"),
        ("{2.5: 1}", "key 2.5 is neither text nor an integer; put it in quotes"),
    ],
)
def test_a_value_that_json_does_not_know_is_refused_with_its_key(tmp_path, text, expected):
    file = tmp_path / "some.yaml"
    file.write_text(f"schema_version: 1\nexperiments:\n- methods: [{{name: mib, hyper_parameters: {{x: {text}}}}}]\n")
    assert problem(file).startswith(f"{file}: experiments[0].methods[0].hyper_parameters.x: {expected}")


def test_every_odd_value_is_a_line_also_where_somebody_else_has_parsed_the_file(tmp_path):
    content = {"a": [float("nan"), {"b": b""}], "c": {3: "fine", "d": None}}
    with pytest.raises(ConfigError) as caught:
        check_plain(content, "mine.yaml")
    first, second = str(caught.value).splitlines()
    assert first.startswith("mine.yaml: a[0]: is nan") and second.startswith("mine.yaml: a[1].b: is binary data")
    with pytest.raises(ConfigError, match=r"mine.yaml: a\[0\]: is nan"):
        parse_config(content, "mine.yaml", tmp_path)


def test_configurations_and_recipes_are_opened_like_that(tmp_path):
    (tmp_path / "twice.yaml").write_text("batch_size: 1\nbatch_size: 2\n")
    with pytest.raises(ConfigError, match=r"twice.yaml: line 2: key 'batch_size'"):
        load_config(tmp_path / "twice.yaml")
    content = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes"}},
        "experiments": [{"dataset": "toy", "scenarios": ["6-3"], "recipe": "twice", "methods": ["mib"]}],
    }
    with pytest.raises(ConfigError, match=r"twice.yaml: line 2: key 'batch_size'"):
        parse_config(content, "mine.yaml", tmp_path)
