"""Every official archive, in small: from a server to a folder that can be prepared."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from archive_server import Offer, serving
from raw_layouts import packed, write_ade20k, write_coco, write_voc, zipped

from model.data.download.archives import Archive, markers, obtain, official_archives, read_table, wanted
from model.data.download.fetching import Checksum, DownloadError
from model.data.download.unpacking import UnpackError, unpack
from model.data.prepared.dataset import PreparedDataset
from model.data.sources import registry as sources
from model.data.sources.prepare import prepare

RAW: dict[str, Callable[[Path], None]] = {
    "ade20k": lambda root: write_ade20k(root, {"training": 3, "validation": 2}),
    "voc": lambda root: write_voc(root, train=2, extra=3, val=2),
    "coco": lambda root: write_coco(root, {"train2017": 3, "val2017": 2}),
}
OPTIONS: dict[str, dict[str, object]] = {
    "ade20k": {},
    "voc": {"labels": "sbd"},
    "coco": {"instances": "official"},
}


def small(archive: Archive, content: bytes) -> Archive:
    checksum = Checksum("sha256", hashlib.sha256(content).hexdigest()) if archive.checksum else None
    return replace(archive, size=len(content), checksum=checksum)


def test_the_table_names_what_the_authors_offer() -> None:
    table = official_archives()
    assert {archive.kind for archive in table.values()} == {"ade20k", "voc", "coco"}
    for archive in table.values():
        assert re.match("https?://", archive.url) and archive.gives
        assert archive.file in archive.url and "/" not in archive.file
    without = {name for name, archive in table.items() if archive.checksum is None}
    assert without == {"ade20k-instances", "voc2012-aug"}, "docs/datasets.md names the archives without a checksum"


@pytest.mark.parametrize("kind", RAW)
def test_downloads_can_be_prepared(tmp_path: Path, kind: str) -> None:
    RAW[kind](tmp_path / "there")
    root, options = tmp_path / "here", {**OPTIONS[kind], "root": str(tmp_path / "here"), "download": True}
    archives = sources.pending(kind, options)
    assert [one.marker(root) for one in archives] == sources.archive_markers(kind, options)
    offer = Offer({one.file: packed(tmp_path / "there", one) for one in archives}, breaks=[20])
    with serving(offer) as address:
        for one in archives:
            marker = obtain(small(one, offer.files[one.file]), root, address)
            assert json.loads(marker.read_text())["sha256"] == hashlib.sha256(offer.files[one.file]).hexdigest()
    assert sources.pending(kind, options) == [] and sources.missing(kind, options) == []
    assert len(offer.asked) == len(archives) + 1
    with pytest.raises(sources.SourceError, match=r"is not complete: .* officially .*\. Delete .*\.json to have"):
        prepare(kind, options, tmp_path / "prepared", name="mine")
    for source, name in ((root, "a"), (tmp_path / "there", "b")):
        prepare(kind, {**options, "root": str(source), "download": False}, tmp_path / name, name="mine")
    for table in ("manifest.json", "panoptic_train.json", "instances_val.json"):
        files = [tmp_path / name / table for name in ("a", "b")]
        assert files[0].exists() == files[1].exists()
        assert not files[0].exists() or files[0].read_bytes() == files[1].read_bytes()
    assert len(PreparedDataset.open(tmp_path / "a").records("val")) == 2


def test_what_lies_there_already_is_used_without_a_network(tmp_path: Path) -> None:
    write_ade20k(tmp_path / "there", {"training": 1, "validation": 1})
    archive = official_archives()["ade20k-instances"]
    content = packed(tmp_path / "there", archive)
    (tmp_path / "archives").mkdir()
    (tmp_path / "archives" / archive.file).write_bytes(content)
    marker = obtain(small(archive, content), tmp_path, "http://nowhere.invalid")
    assert json.loads(marker.read_text())["files"] == 2
    assert wanted(tmp_path / "there", ["ade20k-scenes", "ade20k-instances"]) == []  # somebody has unpacked it by hand
    assert markers(tmp_path / "there", ["ade20k-scenes"]) == []


def test_an_interrupted_unpacking_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path / "there", {"train2017": 2, "val2017": 1})
    archive = official_archives()["coco-panoptic"]
    content, root = packed(tmp_path / "there", archive), tmp_path / "here"
    (root / "archives").mkdir(parents=True)
    (root / "archives" / archive.file).write_bytes(content)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("model.data.download.archives.write_json", killed)
        obtain(small(archive, content), root)
    assert wanted(root, ["coco-panoptic"]) == [archive]  # although everything is there
    obtain(small(archive, content), root)
    assert wanted(root, ["coco-panoptic"]) == [] and not (root / archive.nested[0]).exists()
    assert (root / "panoptic_train2017/000000000001.png").is_file()


def test_an_inner_archive_of_the_user_stays(tmp_path: Path) -> None:
    write_coco(tmp_path / "there", {"train2017": 2, "val2017": 1})
    archive = official_archives()["coco-panoptic"]
    content, root = packed(tmp_path / "there", archive), tmp_path / "here"
    (root / "archives").mkdir(parents=True)
    (root / "archives" / archive.file).write_bytes(content)
    unpack(root / "archives" / archive.file, root / archive.into, part=archive.part)
    mine, other = (root / inner for inner in archive.nested)
    other.unlink()
    obtain(small(archive, content), root)
    assert mine.is_file() and not other.exists()
    assert (root / "panoptic_train2017/000000000001.png").is_file()


def test_wrong_contents_are_refused(tmp_path: Path) -> None:
    archive = official_archives()["ade20k-scenes"]
    evil = zipped({"ADEChallengeData2016/images/a.jpg": b"", "ADEChallengeData2016/../../evil": b"evil"})
    other = zipped({"ADEChallengeData2016/readme.txt": b"nothing else"})
    with serving(Offer({archive.file: evil})) as address:
        with pytest.raises(DownloadError, match=r"expected 967,382,037: it is not the published file"):
            obtain(archive, tmp_path / "a", address)
        with pytest.raises(DownloadError, match=r"has sha256:.*, expected sha256:7ff1be"):
            obtain(replace(archive, size=None), tmp_path / "a", address)
        with pytest.raises(UnpackError, match=r"evil' would be written outside the folder; nothing was unpacked"):
            obtain(small(archive, evil), tmp_path / "a", address)
    assert not list(tmp_path.rglob("evil")) and not list(tmp_path.rglob("a.jpg"))
    with serving(Offer({archive.file: other})) as address, pytest.raises(DownloadError, match="images is not there"):
        obtain(small(archive, other), tmp_path / "b", address)


def test_a_table_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    header = "name,kind,file,url,bytes,checksum,part,into,nested,gives\n"
    (tmp_path / "own.csv").write_text(header + "ade20k-scenes,ade20k,a.zip,http://here/a.zip,7,md5:00,.,.,,images\n")
    monkeypatch.setenv("SEGUE_ARCHIVES", str(tmp_path / "own.csv"))
    assert official_archives()["ade20k-scenes"].size == 7
    for broken in ("name,kind\na,b\n", header + "a,b,c,d,seven,,.,.,,x\n", header + "a,b,c,d,7,crc:1,.,.,,x\n"):
        (tmp_path / "broken.csv").write_text(broken)
        with pytest.raises(DownloadError, match=r"broken\.csv cannot be read as a table of archives"):
            read_table.__wrapped__(tmp_path / "broken.csv")


def test_a_root_that_is_an_unset_variable_is_refused() -> None:
    with pytest.raises(sources.SourceError, match=r"NOWHERE is not set \(in '\$NOWHERE/ade'\)"):
        sources.pending("ade20k", {"root": "$NOWHERE/ade", "download": True})
