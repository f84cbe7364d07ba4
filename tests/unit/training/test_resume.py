import os
import random
import signal

import numpy as np
import pytest
import torch

from model.training.checkpoint import CheckpointError
from model.training.resume import Snapshots, random_states, resume_key, set_random_states, stop_requests


def snapshots(tmp_path, key="key", **options):
    return Snapshots(tmp_path / "snapshots", key, **options)


def names(tmp_path):
    return sorted(path.name for path in (tmp_path / "snapshots").iterdir())


def test_the_newest_snapshot_comes_back_and_two_are_kept(tmp_path):
    kept = snapshots(tmp_path)
    assert kept.load() is None
    for iteration in (5, 10, 15):
        kept.save(iteration, {"weights": torch.full((2,), float(iteration))})
    iteration, content = kept.load()
    assert iteration == 15 and content["weights"].tolist() == [15.0, 15.0]
    assert names(tmp_path) == ["snapshot-key-000000010.pt", "snapshot-key-000000015.pt"]
    kept.clear()
    assert names(tmp_path) == []


def test_a_foreign_key_is_ignored(tmp_path):
    snapshots(tmp_path, "one").save(5, {})
    assert snapshots(tmp_path, "two").load() is None
    assert snapshots(tmp_path, "one").load() == (5, {})


def test_snapshots_of_a_foreign_key_make_room_for_new_ones(tmp_path):
    for iteration in (4000, 5000):
        snapshots(tmp_path, "one").save(iteration, {})
    snapshots(tmp_path, "two").save(600, {})
    assert snapshots(tmp_path, "two").load() == (600, {})
    assert snapshots(tmp_path, "one").load() is None


def test_an_unreadable_snapshot_falls_back_to_the_one_before(tmp_path):
    kept = snapshots(tmp_path)
    kept.save(5, {"a": 1})
    kept.save(10, {"a": 2})
    newest = tmp_path / "snapshots" / "snapshot-key-000000010.pt"
    newest.write_bytes(newest.read_bytes()[:100])
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


def test_the_key_follows_every_text_and_file(tmp_path):
    file = tmp_path / "memory.json"
    file.write_text("one")
    keys = {
        resume_key(["spec", "code"], [file, None]),
        resume_key(["spec", "other"], [file, None]),
        resume_key(["specc", "ode"], [file, None]),
        resume_key(["spec", "code"], [None, file]),
    }
    assert len(keys) == 4
    before = resume_key(["spec"], [file])
    os.utime(file, (1, 1))
    assert resume_key(["spec"], [file]) == before
    file.write_text("two")
    assert resume_key(["spec"], [file]) != before


def test_every_generator_goes_on_where_it_was(tmp_path):
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    np.random.randn()  # leaves a cached value in NumPy's generator
    kept = snapshots(tmp_path)
    kept.save(1, {"random": random_states()})

    def draws():
        return random.random(), random.gauss(0, 1), np.random.randn(), np.random.rand(), torch.rand(3).tolist()

    expected = draws()
    draws()
    set_random_states(kept.load()[1]["random"])
    assert draws() == expected


def test_signals_are_collected_and_handlers_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_requests() as stops:
        assert stops == []
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stops == [signal.SIGUSR1, signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before
