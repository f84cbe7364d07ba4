import json

import pytest

from model.files import atomic_file, write_json, write_text


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_file(path) as file:
        file.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_files_are_as_readable_as_others(tmp_path):
    (tmp_path / "plain").write_text("")
    write_text(tmp_path / "ours", "")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_keeps_text_readable(tmp_path):
    write_json(tmp_path / "a.json", {"name": "Küche"})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "Küche" in text and json.loads(text) == {"name": "Küche"}


@pytest.mark.parametrize("value", [object(), float("nan")])
def test_what_json_cannot_say_leaves_no_file(tmp_path, value):
    with pytest.raises((TypeError, ValueError)):
        write_json(tmp_path / "a.json", {"value": value})
    assert list(tmp_path.iterdir()) == []
