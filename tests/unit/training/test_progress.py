import csv
import gc
import io
import os
import subprocess

import pytest

from model.training.progress import Averages, Progress


class Clock:
    def __init__(self):
        self.time = 0.0

    def __call__(self):
        return self.time


def run(progress, first, last, clock=None, seconds=1.0):
    for iteration in range(first, last + 1):
        if clock is not None:
            clock.time += seconds
        value = float(iteration)
        progress.iteration(iteration, 0.1 / iteration, {"classification": value, "total": 2 * value})


def read(path):
    return list(csv.DictReader(path.open()))


def test_averages_count_each_name_by_itself():
    averages = Averages()
    averages.add({"a": 1.0, "b": 4.0})
    averages.add({"a": 3.0})
    assert averages.take() == {"a": 2.0, "b": 4.0}
    assert averages.take() == {}


def test_curves_are_means_over_equal_stretches(tmp_path):
    progress = Progress(10, log=io.StringIO(), rows=4)
    run(progress, 1, 10)
    progress.write_curves(tmp_path / "train.csv")
    rows = read(tmp_path / "train.csv")
    assert list(rows[0]) == ["iteration", "learning_rate", "classification", "total"]
    assert [float(row["iteration"]) for row in rows] == [3, 6, 9, 10]
    assert [float(row["classification"]) for row in rows] == [2, 5, 8, 10]
    assert [float(row["total"]) for row in rows] == [4, 10, 16, 20]


def test_a_term_that_appears_late_gets_a_column(tmp_path):
    progress = Progress(2, log=io.StringIO())
    progress.iteration(1, 0.1, {"classification": 1.0, "total": 1.0})
    progress.iteration(2, 0.1, {"classification": 1.0, "pod": 2.0, "total": 3.0})
    progress.write_curves(tmp_path / "train.csv")
    assert [row["pod"] for row in read(tmp_path / "train.csv")] == ["", "2"]


def test_the_log_follows_the_clock():
    log, clock = io.StringIO(), Clock()
    run(Progress(20, log=log, seconds=8.0, clock=clock), 1, 20, clock)
    lines = log.getvalue().splitlines()
    assert [line.split()[1] for line in lines] == ["8/20", "16/20", "20/20"]
    assert "loss 9.0000 (classification 4.5000)" in lines[0]
    assert "1.0 it/s" in lines[0] and "left 0:00:12" in lines[0]


def test_an_interrupted_run_writes_the_same_curves(tmp_path):
    whole, first, second = (Progress(10, log=io.StringIO(), rows=3) for _ in range(3))
    run(whole, 1, 10)
    run(first, 1, 5)  # in the middle of a stretch
    second.load_state_dict(first.state_dict())
    run(second, 6, 10)
    whole.write_curves(tmp_path / "whole.csv")
    second.write_curves(tmp_path / "parts.csv")
    assert (tmp_path / "whole.csv").read_text() == (tmp_path / "parts.csv").read_text()


def test_tensorboard_files_hold_the_curves_of_the_last_run_only(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    abandoned = Progress(9, log=io.StringIO(), tensorboard=tmp_path / "events")
    run(abandoned, 1, 3)
    abandoned.close()
    first = Progress(4, log=io.StringIO(), tensorboard=tmp_path / "events")
    run(first, 1, 2)
    first.close()
    second = Progress(4, log=io.StringIO(), tensorboard=tmp_path / "events")
    second.load_state_dict(first.state_dict())
    run(second, 3, 4)
    second.close()
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/total")] == [(1, 2.0), (2, 4.0), (3, 6.0), (4, 8.0)]
    assert "learning_rate" in events.Tags()["scalars"]
    assert len(list((tmp_path / "events").iterdir())) == 1
    mine = tmp_path / "events" / "notes.txt"
    mine.write_text("mine")
    Progress(4, log=io.StringIO(), tensorboard=tmp_path / "events").close()
    assert mine.read_text() == "mine" and len(list((tmp_path / "events").iterdir())) == 2


def test_a_full_disk_ends_the_events_with_a_line_and_not_the_training(tmp_path, capfd):
    pytest.importorskip("tensorboard")
    folder, log = tmp_path / "events", io.StringIO()
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        progress = Progress(2000, log=log, rows=2000, tensorboard=folder)
        run(progress, 1, 2000)
        progress.close()
        del progress
        gc.collect()
    finally:
        subprocess.run(["umount", str(folder)], check=True)
    told = [line for line in log.getvalue().splitlines() if "TensorBoard" in line]
    assert len(told) == 1
    assert str(folder) in told[0] and "no space left on device; free some space" in told[0]
    assert "Traceback" not in capfd.readouterr().err
