import bz2
import io
import lzma
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model.data.download.unpacking import UnpackError, unpack

FILES = {"top/images/a.jpg": b"a" * 5000, "top/images/b.jpg": b"bb", "top/list.txt": b"a\nb\n", "readme.pdf": b"%"}


def make_zip(file: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("top/", b"")
        for name, content in files.items():
            archive.writestr(name, content)
    return file


def make_tar(file: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w:gz" if file.suffix == ".tgz" else "w") as archive:
        for name, content in files.items():
            record = tarfile.TarInfo(name)
            record.size = len(content)
            archive.addfile(record, io.BytesIO(content))
    return file


def make_xz(file: Path, files: dict[str, bytes]) -> Path:
    plain = make_tar(file.with_name("plain.tar"), files)
    file.write_bytes(lzma.compress(plain.read_bytes()))
    plain.unlink()
    return file


MAKERS: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "a.zip": make_zip,
    "a.tar": make_tar,
    "a.tgz": make_tar,
    "a.tar.xz": make_xz,
}


def found(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


@pytest.mark.parametrize("name", MAKERS)
def test_the_wanted_part_is_written_without_its_folder(tmp_path: Path, name: str) -> None:
    rest = {"__MACOSX/top/._list.txt": b"crumb", "top/.DS_Store": b"crumb", "top/images/._a.jpg": b"crumb"}
    archive = MAKERS[name](tmp_path / name, {**FILES, **rest})
    assert unpack(archive, tmp_path / "out", part="top") == 3
    assert found(tmp_path / "out") == {k.removeprefix("top/"): v for k, v in FILES.items() if k.startswith("top/")}
    assert unpack(archive, tmp_path / "whole") == 4


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.parametrize("evil", ["../evil", "top/../../evil", "/evil", "top\\..\\evil", "c:/evil"])
def test_a_name_that_leads_outside_stops_before_anything_is_written(tmp_path: Path, name: str, evil: str) -> None:
    archive = MAKERS[name](tmp_path / name, {**FILES, evil: b"evil"})
    with pytest.raises(
        UnpackError, match=rf"{name}: '.*evil' would be written outside the folder; nothing was unpacked"
    ):
        unpack(archive, tmp_path / "deep/out", part="top")
    assert {file.name for file in tmp_path.rglob("*")} == {name}


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
        with tarfile.open(tmp_path / "a.tar", "w") as archive:
            record = tarfile.TarInfo("top/link")
            record.type, record.linkname = kind, "../../secret"
            archive.addfile(record)
        with pytest.raises(UnpackError, match="'top/link' is a link or a device"):
            unpack(tmp_path / "a.tar", tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as zipped:
        info = zipfile.ZipInfo("top/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "../../secret")
    with pytest.raises(UnpackError, match="'top/link' is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_contents_out_of_all_proportion_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"top/zeros": bytes(80 << 20)})
    with pytest.raises(UnpackError, match=r"a\.zip has .* bytes and claims to hold 83,886,080; nothing was unpacked"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", MAKERS)
def test_damaged_archives_are_named(tmp_path: Path, name: str) -> None:
    archive = MAKERS[name](tmp_path / name, FILES)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 3])
    with pytest.raises(UnpackError, match=rf"{name} cannot be unpacked .*: remove it and fetch it again"):
        unpack(archive, tmp_path / "out")
    archive.write_bytes(b"<html>sorry</html>")
    with pytest.raises(UnpackError, match=rf"{name} cannot be unpacked"):
        unpack(archive, tmp_path / "out")
    with pytest.raises(UnpackError, match="has no file in 'other'"):
        unpack(MAKERS[name](tmp_path / name, FILES), tmp_path / "out", part="other")


@pytest.mark.parametrize("name", MAKERS)
def test_an_interrupted_unpacking_goes_on(tmp_path: Path, name: str) -> None:
    archive, out = MAKERS[name](tmp_path / name, FILES), tmp_path / "out"
    unpack(archive, out)
    kept = (out / "top/images/a.jpg").stat().st_mtime_ns
    (out / "top/images/b.jpg").unlink()
    (out / "top/images/.b.jpg.segue").write_bytes(b"b")  # what a process left that was killed while it wrote
    unpack(archive, out)
    assert found(out) == FILES and (out / "top/images/a.jpg").stat().st_mtime_ns == kept


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_that_was_there_before_and_differs_stays_as_it_is(tmp_path: Path, name: str) -> None:
    archive, out = MAKERS[name](tmp_path / name, FILES), tmp_path / "out"
    (out / "top").mkdir(parents=True)
    (out / "top/list.txt").write_bytes(b"mine")
    (out / "top/list.txt.part").write_bytes(b"mine too")
    with pytest.raises(UnpackError, match=r"list\.txt already exists and differs from the one in .*: move it away"):
        unpack(archive, out)
    assert (out / "top/list.txt").read_bytes() == b"mine"
    assert (out / "top/list.txt.part").read_bytes() == b"mine too"


@pytest.mark.parametrize("compress", [lzma.compress, bz2.compress])
def test_every_flipped_bit_of_a_compressed_archive_is_noticed(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    whole = compress(make_tar(tmp_path / "a.tar", FILES).read_bytes())
    noticed = 0
    for place in range(len(whole)):
        (tmp_path / "b.tar").write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            unpack(tmp_path / "b.tar", tmp_path / str(place))
        except UnpackError as error:
            assert "b.tar cannot be unpacked" in str(error)
            noticed += 1
        else:
            assert found(tmp_path / str(place)) == FILES
    assert noticed > 0.9 * len(whole)


@pytest.mark.parametrize("evil", ["", ".", "./", "./."])
def test_a_file_without_a_name_is_refused(tmp_path: Path, evil: str) -> None:
    archive = make_tar(tmp_path / "a.tar", {**FILES, evil: b"evil"})
    with pytest.raises(
        UnpackError, match=r"a\.tar: '.*' is the name of a folder, but not the kind; nothing was unpacked"
    ):
        unpack(archive, tmp_path / "out")
    with pytest.raises(UnpackError, match="'top' is the name of a folder"):
        unpack(make_tar(tmp_path / "b.tar", {"top": b"a file"}), tmp_path / "out", part="top")
    assert not (tmp_path / "out").exists()
