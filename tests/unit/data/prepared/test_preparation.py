"""Restarting: what an interrupted preparation has done is kept, and only that."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model.common.locks import NamedLock
from model.data.prepared.images import read_labels, write_png
from model.data.prepared.preparation import PreparedImage, RawImage, prepare_split

PROJECT = Path(__file__).resolve().parents[4]


def raw_images(root: Path, number: int = 5) -> list[RawImage]:
    images = []
    for k in range(number):
        file = root / f"{k}.png"
        write_png(file, np.full((4, 4), k, np.uint8))
        images.append(RawImage(str(k), file, file))
    return images


def note(log: Path, fail_at: str | None, raw: RawImage) -> PreparedImage:
    if raw.id == fail_at:
        raise ValueError(f"interrupted at {raw.id}")
    with log.open("a") as stream:
        stream.write(raw.id)
    return PreparedImage(4, 4, {"semantic": np.full((4, 4), int(raw.id), np.uint8)}, [{"id": 1, "area": 16}])


def run(tmp_path: Path, images: list[RawImage], fail_at: str | None = None, settings: int = 0) -> tuple[list, str]:
    log = tmp_path / "log"
    log.write_text("")
    lines = prepare_split(tmp_path / "out", "train", images, partial(note, log, fail_at), {"settings": settings}, 1)
    return lines, log.read_text()


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    images = raw_images(tmp_path)
    with pytest.raises(ValueError, match="interrupted at 3"):
        run(tmp_path, images, fail_at="3")
    with (tmp_path / "out/journal/train.jsonl").open("a") as stream:
        stream.write('{"id": "3", "ra')  # a line cut off by the interruption
    lines, done = run(tmp_path, images)
    assert done == "3"  # the others went on when 3 failed
    assert [line["id"] for line in lines] == list("01234")
    assert lines == run(tmp_path, images)[0]
    assert run(tmp_path, images)[1] == ""


def test_changed_files_and_settings_are_done_again(tmp_path: Path) -> None:
    images = raw_images(tmp_path)
    run(tmp_path, images)
    write_png(tmp_path / "out/semantic/train/1.png", np.zeros((4, 4), np.uint8))
    (tmp_path / "out/semantic/train/2.png").unlink()
    write_png(images[4].image, np.zeros((9, 9), np.uint8))
    assert run(tmp_path, images)[1] == "124"
    assert run(tmp_path, images, settings=1)[1] == "01234"


def test_images_that_are_gone_from_the_list_are_left_out(tmp_path: Path) -> None:
    images = raw_images(tmp_path)
    run(tmp_path, images)
    lines, done = run(tmp_path, images[1:4])
    assert [line["id"] for line in lines] == list("123") and done == ""


def test_a_killed_preparation_leaves_no_half_image_and_is_continued(tmp_path: Path) -> None:
    root, names = tmp_path / "raw", [f"{k:04d}" for k in range(400)]
    generator = np.random.default_rng(0)
    for name in names:
        write_png(root / "images" / f"{name}.png", np.zeros((96, 96, 3), np.uint8))
        write_png(root / "labels" / f"{name}.png", generator.integers(0, 200, (96, 96), np.uint8))
    for split, chosen in (("train", names), ("val", names[:1])):
        (root / f"{split}.txt").write_text("\n".join(chosen))
    (root / "classes.txt").write_text("\n".join(f"class {k}" for k in range(200)))
    spec = json.dumps({"name": "mine", "kind": "folder", "options": {"root": str(root)}})
    script = [sys.executable, str(PROJECT / "workflow_scripts/prepare_dataset.py"), "--spec", spec, "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    journal = tmp_path / "killed/journal/train.jsonl"
    running = subprocess.Popen(
        [*script, "--manifest", str(tmp_path / "killed/dataset.json")],
        env=environment,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while running.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 40):
        time.sleep(0.005)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL, "it ended before it was killed"
    assert not (tmp_path / "killed/dataset.json").exists()
    for file in (tmp_path / "killed/semantic/train").glob("*.png"):
        assert read_labels(file).shape == (96, 96)
    for folder in ("killed", "whole"):
        command = [*script, "--manifest", str(tmp_path / folder / "dataset.json")]
        subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, check=True)
    manifests = [(tmp_path / folder / "manifest.json").read_bytes() for folder in ("killed", "whole")]
    assert manifests[0] == manifests[1]


def test_a_preparation_waits_for_one_that_outlived_its_workflow(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    write_png(root / "images/a.png", np.zeros((64, 64, 3), np.uint8))
    write_png(root / "labels/a.png", np.zeros((64, 64), np.uint8))
    for split in ("train", "val"):
        (root / f"{split}.txt").write_text("a")
    (root / "classes.txt").write_text("thing")
    spec = json.dumps({"name": "mine", "kind": "folder", "options": {"root": str(root)}})
    manifest, lock = tmp_path / "out/dataset.json", NamedLock(tmp_path / "work/user")
    script = [sys.executable, str(PROJECT / "workflow_scripts/prepare_dataset.py"), "--spec", spec]
    assert lock.take()
    running = subprocess.Popen(
        [*script, "--manifest", str(manifest), "--work", str(tmp_path / "work")],
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stdout is not None
    said = running.stdout.readline()
    assert f"process {os.getpid()} on " in said and "waiting for it to end" in said
    assert not manifest.parent.exists()
    lock.release()
    running.communicate()
    assert running.returncode == 0 and manifest.exists()
