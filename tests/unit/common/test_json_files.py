"""JSON files of Segue's own carry a checksum, whatever the order of their keys, and any edit is noticed."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.common.files import FileError
from model.common.json_files import CHECKSUM, Layout, read_checked, write_checked


class Anything(Layout):
    """No entry is needed."""


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.dictionaries(st.text().filter(lambda key: key != CHECKSUM), PLAIN, max_size=4))
def test_what_is_written_is_read(tmp_path: Path, content: dict) -> None:
    write_checked(tmp_path / "a.json", content)
    assert read_checked(tmp_path / "a.json", Anything) == json.loads(json.dumps(content))


def test_the_order_of_keys_and_the_layout_of_the_text_do_not_matter(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    write_checked(file, {"b": {"y": 1, "x": (2, 3)}, "a": {7: "seven"}})
    content = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(content.items()))))
    assert read_checked(file, Anything) == {"a": {"7": "seven"}, "b": {"y": 1, "x": [2, 3]}}


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('"images": 3', '"images": 4', "does not match the checksum stored with it: it is damaged or was edited"),
        ('"images"', '"imagez"', "does not match the checksum stored with it: it is damaged or was edited"),
        ("3", "3.0", "does not match the checksum stored with it: it is damaged or was edited"),
        ("3", "NaN", "does not match the checksum stored with it: it is damaged or was edited"),
        ('"checksum"', '"checksun"', "has no checksum: this version of Segue did not write it"),
        ("}", ', "more": 1}', "does not match the checksum stored with it: it is damaged or was edited"),
    ],
)
def test_an_edit_is_noticed(tmp_path: Path, before: str, after: str, message: str) -> None:
    file = tmp_path / "a.json"
    write_checked(file, {"images": 3})
    file.write_text(file.read_text().replace(before, after, 1))
    with pytest.raises(FileError, match=rf"a\.json: .*{message}; delete it to have it made again"):
        read_checked(file, Anything)
