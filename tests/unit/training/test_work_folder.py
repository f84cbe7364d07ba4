from pathlib import Path

import pytest

from model.common.locks import exclusive_lock
from model.training.work_folder import forget_finished, keep_finished, restore_finished


@pytest.fixture
def outputs(tmp_path: Path) -> dict[str, Path]:
    """Two finished files."""
    found = {name: tmp_path / "run" / name for name in ("train.json", "checkpoint.pt")}
    (tmp_path / "run").mkdir()
    for name, path in found.items():
        path.write_text(f"content of {name}")
    return found


def test_outputs_that_a_workflow_deleted_come_back(tmp_path, outputs):
    told = []
    assert not restore_finished(tmp_path / "work", "key", outputs, told.append)
    keep_finished(tmp_path / "work", "key", outputs)
    for path in outputs.values():
        path.unlink()
    assert restore_finished(tmp_path / "work", "key", outputs, told.append)
    assert all(path.read_text() == f"content of {name}" for name, path in outputs.items())
    assert len(told) == 1 and "had finished before" in told[0]


def test_links_take_no_room(tmp_path, outputs):
    keep_finished(tmp_path / "work", "key", outputs)
    assert all(path.stat().st_nlink == 2 for path in outputs.values())


def test_another_key_damage_and_a_missing_record_bring_nothing_back(tmp_path, outputs):
    told = []
    work = tmp_path / "work"
    keep_finished(work, "key", outputs)
    assert not restore_finished(work, "other", outputs, told.append) and told == []
    kept = work / "finished" / "checkpoint.pt"
    kept.unlink()
    kept.write_text("content of chexkpoint.pt")
    assert not restore_finished(work, "key", outputs, told.append) and "damaged" in told[0]
    (work / "finished" / "key.json").unlink()
    assert not restore_finished(work, "key", outputs, told.append)


def test_a_finished_training_can_be_forgotten(tmp_path, outputs):
    keep_finished(tmp_path / "work", "key", outputs)
    forget_finished(tmp_path / "work")
    forget_finished(tmp_path / "work")
    assert not restore_finished(tmp_path / "work", "key", outputs, print)
    with exclusive_lock(tmp_path / "work", print):
        assert (tmp_path / "work" / "user").exists()


def test_files_that_no_record_lists_stay(tmp_path, outputs):
    work = tmp_path / "work"
    keep_finished(work, "key", outputs)
    mine = work / "finished" / "notes.txt"
    mine.write_text("mine")
    keep_finished(work, "key", outputs)
    forget_finished(work)
    assert [file.name for file in (work / "finished").iterdir()] == ["notes.txt"]
    mine.unlink()
    keep_finished(work, "key", outputs)
    forget_finished(work)
    assert not (work / "finished").exists()
