"""Exclusive locks that tell who holds them."""

import errno
import os
import subprocess
import sys

import pytest
from filelock import FileLock

from model.common.files import NotWrittenError
from model.common.fingerprints import PROJECT
from model.common.locks import NamedLock, NoLocksError, exclusive_lock

HOLD = """
import sys
from pathlib import Path
from model.common.locks import NamedLock
lock = NamedLock(Path(sys.argv[1]))
print(lock.take(wait=True), flush=True)
sys.stdin.readline()
"""


def holding(file):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", HOLD, str(file)], cwd=PROJECT, **pipes)


def test_one_process_holds_it_and_the_file_names_it_until_it_is_killed(tmp_path):
    file, mine = tmp_path / "deep" / "lock", NamedLock(tmp_path / "deep" / "lock")
    assert mine.holder == ""
    with holding(file) as other:
        assert other.stdout.readline() == "True\n"
        assert not mine.take() and not mine.take()
        assert mine.holder.startswith(f"process {other.pid} on ")  # asking has not changed who it names
        other.kill()
        assert mine.take(wait=True)
    assert mine.holder.startswith(f"process {os.getpid()} on ")
    assert mine.take()
    assert not NamedLock(file).take()
    mine.release()
    mine.release()
    assert NamedLock(file).take()


def test_a_place_that_cannot_be_written_to_is_no_file_system_without_locks(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWrittenError, match="file/lock cannot be written"):
        NamedLock(tmp_path / "file" / "lock").take()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_the_file_names_the_process_all_the_same(tmp_path, monkeypatch, number):
    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", refuse)
    lock = NamedLock(tmp_path / "lock")
    with pytest.raises(NoLocksError, match=os.strerror(number)):
        lock.take()
    assert lock.holder.startswith(f"process {os.getpid()} on ")
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


def test_locks_of_filelock_leave_the_name_of_their_holder_alone(tmp_path):
    lock = NamedLock(tmp_path / "lock")
    assert lock.take()
    lock.release()
    name = lock.holder
    with FileLock(tmp_path / "lock"):
        assert lock.holder == name != ""


HOLD_FOLDER = """
import sys
from pathlib import Path
from model.common.locks import exclusive_lock
with exclusive_lock(Path(sys.argv[1]), lambda text: print(text, flush=True)):
    print("mine", flush=True)
    sys.stdin.readline()
"""


def test_a_second_process_waits_until_the_first_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLD_FOLDER, str(tmp_path / "work")]
    options = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": PROJECT}
    first = subprocess.Popen(command, **options)
    assert first.stdout.readline() == "mine\n"
    second = subprocess.Popen(command, **options)
    assert f"process {first.pid} on " in (said := second.stdout.readline()) and "waiting for it to end" in said
    first.kill()
    assert second.stdout.readline() == "mine\n"
    assert (tmp_path / "work" / "user").read_text().startswith(f"process {second.pid} on ")
    second.communicate("\n")
    first.communicate()
    assert second.returncode == 0


def test_without_locks_the_training_runs_and_says_what_to_see_to(tmp_path, monkeypatch):
    def refuse(*arguments: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    told = []
    with exclusive_lock(tmp_path / "work", told.append):
        assert len(told) == 1 and "Function not implemented" in told[0] and "no second process" in told[0]
