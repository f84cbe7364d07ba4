"""Whether a raw file is the one that was noted: by size, times and inode, and by content where these differ."""

import os
import shutil
from pathlib import Path

import pytest

from model.data.prepared import raw_files
from model.data.prepared.raw_files import (
    RawInputs,
    changed_files,
    changed_inputs,
    confirmed,
    observe,
    observe_inputs,
    read_table,
    table_of,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "raw" / "labels" / "one.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"first")
    return path


def test_a_file_that_nobody_touched_is_looked_at_and_not_read(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = observe(file)
    monkeypatch.setattr(raw_files, "content_hash", lambda _: pytest.fail("was read"))
    assert confirmed(row, file) == row


def test_copies_and_touched_files_are_the_same_by_content(file: Path, tmp_path: Path) -> None:
    row = observe(file)
    copy = Path(shutil.copy(file, tmp_path / "copy.png"))
    assert confirmed(row, copy) == observe(copy) != row
    os.utime(file, (1, 1))
    assert confirmed(row, file) == observe(file) != row


def replace(file: Path, content: bytes, in_place: bool) -> None:
    """Other content of the same size under the same name, with the times of the old file."""
    times = file.stat()
    if not in_place:
        file.unlink()
    file.write_bytes(content)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("in_place", [True, False])
def test_another_file_with_the_old_name_size_and_time_is_noticed(file: Path, in_place: bool) -> None:
    row = observe(file)
    replace(file, b"other", in_place)
    assert [file.stat().st_size, file.stat().st_mtime_ns] == row[1:3]
    assert confirmed(row, file) is None
    assert list(changed_files([row])) == [f"{file} was replaced"]


def test_another_file_in_another_folder_with_the_same_name_size_and_time_is_noticed(file: Path, tmp_path: Path) -> None:
    row = observe(file)
    other = tmp_path / "version-2" / "one.png"
    other.parent.mkdir()
    other.write_bytes(b"other")
    os.utime(other, ns=(row[2], row[2]))
    assert confirmed(row, other) is None


def test_verifying_reads_what_looks_unchanged(file: Path) -> None:
    row = observe(file)
    forged = [*row[:5], "0" * 64]  # as if the content had changed and nothing else
    assert confirmed(forged, file) == forged
    assert confirmed(forged, file, verify=True) is None


def test_a_table_of_files_moves_with_its_folder(tmp_path: Path) -> None:
    home = tmp_path / "prepared"
    for path in (home / "raw" / "one, two.png", tmp_path / "theirs.png"):
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"")
    rows = [observe(home / "raw" / "one, two.png"), observe(tmp_path / "theirs.png")]
    text = table_of(rows, home)
    assert list(read_table(text, home)) == rows
    assert next(read_table(text, tmp_path / "moved"))[0] == str(tmp_path / "moved/raw/one, two.png")


def test_tables_listings_and_folders_are_compared(file: Path, tmp_path: Path) -> None:
    table = tmp_path / "raw" / "classes.txt"
    table.write_text("sky\n")
    inputs = RawInputs((tmp_path / "raw",), (table,), (file.parent,))
    before = observe_inputs(inputs)
    assert list(changed_inputs(before, inputs)) == []
    os.utime(table, (5, 5))
    (file.parent / ".hidden").write_text("")
    assert list(changed_inputs(before, inputs)) == []
    replace(table, b"sea\n", in_place=True)
    (file.parent / "two.png").write_text("")
    assert list(changed_inputs(before, inputs)) == [f"{table} was edited", f"{file.parent} has other files"]
    more = RawInputs(inputs.folders, (tmp_path / "raw" / "new.txt",), ())
    assert list(changed_inputs(before, more)) == [f"{tmp_path / 'raw/new.txt'} is new", f"{table} is gone"]
    (elsewhere,) = changed_inputs(before, RawInputs((tmp_path,), (table,), ()))
    assert elsewhere == f"{tmp_path} is read instead of {tmp_path / 'raw'}"
