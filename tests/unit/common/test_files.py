import json
import resource
import subprocess
import sys

import pytest

from model.common.files import FileError, atomic_file, read_json, write_json, write_text


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


def test_what_stands_in_the_way_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        FileError, match=r"file/new\.txt cannot be written: .*there is a file where a folder is expected"
    ):
        write_text(tmp_path / "file" / "new.txt", "")
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    with pytest.raises(OSError, match=r"folder cannot be written: .*there is a folder where a file is expected"):
        write_text(tmp_path / "folder", "")
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


WRITE_TOO_MUCH = """
import resource, sys, pathlib, torch
from model.common.files import FileError, atomic_file
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with atomic_file(pathlib.Path(sys.argv[1])) as file:
        torch.save(torch.zeros(100_000), file)
except FileError as error:
    print(error)
"""


def test_a_write_that_fails_inside_torch_names_the_file_and_leaves_the_old_one(tmp_path):
    path = tmp_path / "checkpoint.pt"
    path.write_text("old")
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run([sys.executable, "-c", WRITE_TOO_MUCH, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{path} cannot be written: file too large")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "is not valid JSON"),
        (b"[1]", "expected keys and values, found a list"),
        (b"\xff", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (None, "does not exist"),
    ],
)
def test_a_file_that_is_no_json_is_named(tmp_path, content, message):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(FileError, match=rf"a\.json:? {message}"):
        read_json(path)
