import hashlib
import os
from pathlib import Path

import pytest
from archive_server import Offer, serving

from model.data.download.fetching import Checksum, DownloadError, fetch

CONTENT = bytes(range(256)) * 3000
RIGHT = Checksum("sha256", hashlib.sha256(CONTENT).hexdigest())


def left_over(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_file_is_fetched_checked_and_not_fetched_twice(tmp_path: Path) -> None:
    offer = Offer({"a.zip": CONTENT})
    with serving(offer) as address:
        for _ in range(2):
            assert fetch(f"{address}/a.zip", tmp_path / "x/a.zip", checksum=RIGHT, size=len(CONTENT)) == RIGHT.digest
    assert (tmp_path / "x/a.zip").read_bytes() == CONTENT
    assert left_over(tmp_path / "x") == ["a.zip"] and offer.asked == [None]


def test_broken_connections_are_resumed_at_the_byte_where_they_broke(tmp_path: Path) -> None:
    offer = Offer({"a.zip": CONTENT}, breaks=[100_000, 70_000, 400_000])
    with serving(offer) as address:
        fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT, pause=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT
    blocks = [None, *(f"bytes={65536 * number}-" for number in (1, 2, 8))]  # whole blocks of what came are kept
    assert offer.asked == blocks


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(tmp_path: Path) -> None:
    offer = Offer({"a.zip": CONTENT}, breaks=[70_000, 0, 0])
    with serving(offer) as address:
        with pytest.raises(
            DownloadError, match=r"cannot be fetched: .*\. 65,536 bytes are in .*a\.zip\.part and are used"
        ):
            fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT, attempts=3, pause=0)
        assert not (tmp_path / "a.zip").exists()
        fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT)
    assert offer.asked[-1] == "bytes=65536-" and left_over(tmp_path) == ["a.zip"]


def test_servers_without_ranges_are_asked_from_the_start(tmp_path: Path) -> None:
    offer = Offer({"a.zip": CONTENT}, breaks=[100_000], ranges=False, status=[503])
    with serving(offer) as address:
        fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT, pause=0)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_file_that_changed_meanwhile_is_not_mixed_with_the_old_one(tmp_path: Path) -> None:
    offer = Offer({"a.zip": b"x" * 500_000}, breaks=[100_000])
    with serving(offer) as address:
        with pytest.raises(DownloadError):
            fetch(f"{address}/a.zip", tmp_path / "a.zip", attempts=1)
        offer.files["a.zip"], offer.tag = CONTENT, '"second"'
        fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT


def test_a_complete_partial_file_only_needs_its_name(tmp_path: Path) -> None:
    offer = Offer({"a.zip": CONTENT}, breaks=[len(CONTENT) - 1, 0])
    with serving(offer) as address:
        with pytest.raises(DownloadError):
            fetch(f"{address}/a.zip", tmp_path / "a.zip", attempts=2, pause=0)
        (tmp_path / "a.zip.part").write_bytes(CONTENT)
        fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT)
    assert offer.asked[-1] == f"bytes={len(CONTENT)}-"


def test_another_file_than_the_published_one_is_refused_and_not_kept(tmp_path: Path) -> None:
    wrong = Checksum("md5", "0" * 32)
    with serving(Offer({"a.zip": CONTENT})) as address:
        with pytest.raises(DownloadError, match=r"a\.zip\.part has md5:[0-9a-f]{32}, expected md5:0{32}: http"):
            fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=wrong)
        with pytest.raises(DownloadError, match=r"has 768,000 bytes, expected 5: it is not the published file"):
            fetch(f"{address}/a.zip", tmp_path / "a.zip", size=5)
    assert left_over(tmp_path) == []
    (tmp_path / "a.zip").write_bytes(b"put here by hand")
    with pytest.raises(DownloadError, match=r"a\.zip has sha256:.*, expected sha256:.*: remove it"):
        fetch("http://nowhere.invalid/a.zip", tmp_path / "a.zip", checksum=RIGHT)
    assert (tmp_path / "a.zip").read_bytes() == b"put here by hand"


def test_damage_by_an_earlier_call_is_repaired_by_fetching_afresh(tmp_path: Path) -> None:
    offer = Offer({"a.zip": CONTENT}, breaks=[100_000])
    with serving(offer) as address:
        with pytest.raises(DownloadError):
            fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT, attempts=1)
        (tmp_path / "a.zip.part").write_bytes(b"\0" * 100_000)
        fetch(f"{address}/a.zip", tmp_path / "a.zip", checksum=RIGHT)
    assert (tmp_path / "a.zip").read_bytes() == CONTENT and offer.asked[-1] is None


def test_without_a_published_checksum_the_first_one_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "a.zip"
    with serving(Offer({"a.zip": CONTENT})) as address:
        fetch(f"{address}/a.zip", file)
        assert "no checksum has been published; sha256" in capsys.readouterr().err
        assert (tmp_path / "a.zip.sha256").read_text() == f"{RIGHT.digest}  a.zip\n"
        assert fetch(f"{address}/a.zip", file) == RIGHT.digest
        file.write_bytes(CONTENT[:-1])
        with pytest.raises(DownloadError, match="expected sha256:"):
            fetch(f"{address}/a.zip", file)


def test_what_cannot_be_had_is_said_with_what_to_do(tmp_path: Path) -> None:
    with serving(Offer({})) as address, pytest.raises(DownloadError, match=r"answers 404 .* as .*/a\.zip$"):
        fetch(f"{address}/a.zip", tmp_path / "a.zip")
    with pytest.raises(DownloadError, match=r"a\.zip cannot be fetched: .* or put the file there by other means"):
        fetch(f"{address}/a.zip", tmp_path / "a.zip", attempts=1)  # nobody listens any more
    with pytest.raises(DownloadError, match="not an http or https address"):
        fetch("file:///etc/passwd", tmp_path / "a.zip")
    with pytest.raises(DownloadError, match="'crc:12' is not md5"):
        Checksum.parse("crc:12")


def test_a_disk_that_is_too_small_is_noticed_before_it_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = os.statvfs(tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": usage.f_frsize})())
    with (
        serving(Offer({"a.zip": CONTENT})) as address,
        pytest.raises(DownloadError, match="has only 0 free: free some"),
    ):
        fetch(f"{address}/a.zip", tmp_path / "a.zip")
