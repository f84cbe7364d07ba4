"""An archive of results: what is written is read, and whatever was changed, cut or made up is refused."""

from __future__ import annotations

import json
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model.common.json_files import CHECKSUM, checksum_of
from model.reporting import results_archive
from model.reporting.results_archive import MANIFEST, ArchiveError, read_archive, write_archive

FILES = {"tables/metrics.csv": b"a,b\n1,2\n", "runs/one/train.json": '{"note": "ä"}'.encode()}


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.zip"
    write_archive(path, "1.2", FILES)
    return path


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> Path:
    """The archive with other members; the zip file itself is sound."""
    with zipfile.ZipFile(path) as opened:
        members = {name: opened.read(name) for name in opened.namelist()}
    change(members)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for name, content in members.items():
            opened.writestr(name, content)
    return path


def edited_manifest(path: Path, **changes: object) -> Path:
    """The archive with another manifest, whose checksum is right."""

    def change(members: dict[str, bytes]) -> None:
        content = {key: value for key, value in json.loads(members[MANIFEST]).items() if key != CHECKSUM} | changes
        members[MANIFEST] = json.dumps({**content, CHECKSUM: checksum_of(content)}).encode()

    return rewritten(path, change)


def test_what_is_written_is_read(archive: Path) -> None:
    found = read_archive(archive)
    assert dict(found.files) == FILES and found.version == "1.2"
    assert found.json("runs/one/train.json") == {"note": "ä"}


def test_equal_content_gives_equal_bytes_and_replaces_an_earlier_archive(archive: Path) -> None:
    before = archive.read_bytes()
    write_archive(archive, "1.2", dict(reversed(FILES.items())))
    assert archive.read_bytes() == before


def test_a_file_of_the_user_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "mine.zip"
    with zipfile.ZipFile(path, "w") as opened:
        opened.writestr("photo.jpg", b"mine")
    before = path.read_bytes()
    with pytest.raises(ArchiveError, match="exists and is no archive of results"):
        write_archive(path, "1.2", FILES)
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["photo.png", "../up.csv", "/etc/cron.csv", "a/./b.csv", "C:/a.csv", "a\\b.csv"])
def test_nothing_is_written_that_would_not_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(ArchiveError):
        write_archive(tmp_path / "new.zip", "1.2", {name: b""})
    assert not (tmp_path / "new.zip").exists()


@pytest.mark.parametrize("kept", [0, 3, 40, -1])
def test_every_cut_is_noticed(archive: Path, kept: int) -> None:
    archive.write_bytes(archive.read_bytes()[:kept])
    with pytest.raises(ArchiveError, match=r"is not an archive of results|cut short or damaged"):
        read_archive(archive)


def test_no_changed_byte_of_a_member_gets_through(archive: Path) -> None:
    whole = archive.read_bytes()
    for place in range(0, len(whole), 7):
        archive.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            assert dict(read_archive(archive).files) == FILES  # a date or another field without meaning was hit
        except ArchiveError:
            continue


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update({"tables/metrics.csv": b"a,b\n1,3\n"}), "'tables/metrics.csv' differs from its checksum"),
        (lambda m: m.pop("tables/metrics.csv"), "'tables/metrics.csv' is missing, though its manifest lists it"),
        (lambda m: m.update({"more.csv": b""}), "'more.csv' is not in its manifest"),
        (lambda m: m.update({"../../more.csv": b""}), "is no path inside an archive"),
        (lambda m: m.update({"/more.csv": b""}), "is no path inside an archive"),
        (lambda m: m.update({"run.py": b""}), "is neither CSV nor JSON"),
        (lambda m: m.pop(MANIFEST), "has no manifest.json"),
        (lambda m: m.update({MANIFEST: b"[]"}), "expected keys and values"),
        (lambda m: m.update({MANIFEST: b"[" * 100_000}), "is not valid JSON"),
        (lambda m: m.update({MANIFEST: m[MANIFEST].replace(b'"1.2"', b'"1.3"')}), "does not match the checksum"),
    ],
)
def test_what_was_changed_is_named(archive: Path, change: Callable[[dict[str, bytes]], None], said: str) -> None:
    with pytest.raises(ArchiveError) as caught:
        read_archive(rewritten(archive, change))
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_an_archive_of_a_newer_version_says_so(archive: Path) -> None:
    with pytest.raises(ArchiveError, match=r"newer version of Segue \(format 2, this version reads 1\): update Segue"):
        read_archive(edited_manifest(archive, format=2))


def test_a_link_is_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        link = zipfile.ZipInfo("runs/two.csv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(ArchiveError, match="is a link or a device"):
        read_archive(archive)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_occurs_twice_is_refused(archive: Path) -> None:
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("tables/metrics.csv", b"others")
    with pytest.raises(ArchiveError, match=r"holds 'tables/metrics\.csv' twice"):
        read_archive(archive)


def test_an_implausibly_large_archive_is_not_unpacked(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(results_archive, "MOST_BYTES", 10)
    with pytest.raises(ArchiveError, match="which tables and records never are; it was not read"):
        read_archive(archive)
