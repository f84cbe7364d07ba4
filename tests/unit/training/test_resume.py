import errno
import os

import numpy as np
import pytest
import torch

from model.training.checkpoint import CheckpointError
from model.training.resume import ResumeKey, SnapshotError, Snapshots, snapshot_minutes


class Told(list):
    """Collects what is said."""

    def __call__(self, text):
        self.append(text)


def snapshots(tmp_path, code="one", **options):
    return Snapshots(tmp_path / "snapshots", ResumeKey({"specification": "s", "code": code}), **options)


def iterations(tmp_path):
    return sorted(int(path.name.split("-")[2]) for path in (tmp_path / "snapshots").iterdir())


def file_of(tmp_path, iteration):
    (found,) = (tmp_path / "snapshots").glob(f"snapshot-*-{iteration:09d}-*.pt")
    return found


@pytest.mark.parametrize("text", ["abc", "", "-1", "nan", "inf"])
def test_a_time_between_snapshots_that_is_none_is_told_with_the_name_of_the_variable(text):
    with pytest.raises(SnapshotError, match=f"^SEGUE_SNAPSHOT_MINUTES is '{text}': expected minutes"):
        snapshot_minutes(None, {"SEGUE_SNAPSHOT_MINUTES": text})


def test_the_command_line_wins_over_the_environment():
    assert snapshot_minutes(0.5, {"SEGUE_SNAPSHOT_MINUTES": "abc"}) == 0.5
    assert snapshot_minutes(None, {"SEGUE_SNAPSHOT_MINUTES": "0"}) == 0
    assert snapshot_minutes(None, {}) == 10


def test_the_newest_snapshot_comes_back_and_two_are_kept(tmp_path):
    kept = snapshots(tmp_path, say=(told := Told()))
    assert kept.load() is None and told == []
    for iteration in (5, 10, 15):
        assert kept.save(iteration, {"weights": torch.full((2,), float(iteration))})
    assert iterations(tmp_path) == [10, 15]
    iteration, content = kept.load()
    assert iteration == 15 and content["weights"].tolist() == [15.0, 15.0]
    assert len(told) == 1 and told[0].startswith("continuing after iteration 15, from ")
    kept.clear()
    assert iterations(tmp_path) == []


def test_time_is_counted_from_the_beginning_however_often_training_was_interrupted(tmp_path):
    time = [100.0]
    for iteration in (5, 10):  # 7 seconds each until the snapshot, then 3 that are lost
        kept = snapshots(tmp_path, clock=lambda: time[0], say=Told())
        kept.load()
        time[0] += 7
        assert kept.save(iteration, {})
        time[0] += 3
    kept = snapshots(tmp_path, clock=lambda: time[0], say=Told())
    assert kept.load()[0] == 10
    time[0] += 2
    assert kept.spent == 7 + 7 + 2


def test_a_foreign_key_is_refused_and_what_differs_is_said(tmp_path):
    snapshots(tmp_path, "one").save(5, {})
    assert snapshots(tmp_path, "two", say=(told := Told())).load() is None
    assert len(told) == 1 and "refused, it was made with another code; training starts from the beginning" in told[0]
    assert snapshots(tmp_path, "one", say=Told()).load() == (5, {})


def test_a_snapshot_under_a_name_that_is_not_its_own_is_refused(tmp_path):
    mine, other = snapshots(tmp_path, "one", say=Told()), snapshots(tmp_path, "two", say=Told())
    other.save(5, {})
    path = file_of(tmp_path, 5)
    path.rename(path.with_name(path.name.replace(other.key.digest[:12], mine.key.digest[:12])))
    assert mine.load() is None


def test_snapshots_of_a_foreign_key_make_room_for_new_ones(tmp_path):
    for iteration in (4000, 5000):
        snapshots(tmp_path, "one").save(iteration, {})
    snapshots(tmp_path, "two").save(600, {})
    assert iterations(tmp_path) == [600]
    assert snapshots(tmp_path, "two").load() == (600, {})


def cut(content):
    return content[:100]


def empty(content):
    return b""


def flip_a_bit_of_a_weight(content):
    at = content.index(np.full(50, 10.0, np.float32).tobytes())
    return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]


@pytest.mark.parametrize("damage", [cut, empty, flip_a_bit_of_a_weight])
def test_a_damaged_snapshot_is_told_by_its_checksum_and_falls_back_to_the_one_before(tmp_path, damage):
    kept = snapshots(tmp_path, say=(told := Told()))
    for iteration in (5, 10):
        kept.save(iteration, {"weights": torch.full((50,), float(iteration))})
    newest = file_of(tmp_path, 10)
    newest.write_bytes(damage(newest.read_bytes()))
    iteration, content = kept.load()
    assert iteration == 5 and set(content["weights"].tolist()) == {5.0}
    assert len(told) == 2 and "damaged, not used (its checksum is wrong)" in told[0] and "iteration 5" in told[1]


def test_what_a_killed_process_left_half_written_is_removed(tmp_path):
    kept = snapshots(tmp_path, say=Told())
    kept.save(5, {})
    for name in (".unnamed.pt.x1y2.part", "unnamed.pt"):
        (tmp_path / "snapshots" / name).write_bytes(b"half")
    assert kept.load() == (5, {})
    assert iterations(tmp_path) == [5]


def test_a_full_disk_is_told_and_leaves_the_snapshot_before(tmp_path, monkeypatch):
    kept = snapshots(tmp_path, say=(told := Told()))
    kept.save(5, {"a": 1})

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.fsync", full)
    assert not kept.save(10, {"a": 2})
    assert "no snapshot after iteration 10" in told[0] and "no space left on device" in told[0].lower()
    assert kept.load() == (5, {"a": 1})


def test_what_could_not_be_read_back_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"snapshot\['method_state'\]\['counts'\]"):
        snapshots(tmp_path).save(1, {"method_state": {"counts": np.zeros(2)}})


def test_periodic_snapshots_follow_the_clock(tmp_path):
    time = [0.0]
    kept = snapshots(tmp_path, seconds=10.0, clock=lambda: time[0])
    seen = []
    for now in (5.0, 10.0, 12.0, 20.0):
        time[0] = now
        seen.append(kept.due)
        if kept.due:
            kept.save(int(now), {})
    assert seen == [False, True, False, True]


def test_two_keys_tell_in_which_parts_they_differ():
    one = ResumeKey({"code": "a", "memory": "m"})
    assert one.digest == ResumeKey({"memory": "m", "code": "a"}).digest
    assert one.digest != ResumeKey({"code": "a", "memory": "n"}).digest
    assert one.differences({"code": "b", "memory": "m", "split": "s"}) == ["code", "split"]
