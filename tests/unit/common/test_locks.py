"""Exclusive locks that tell who holds them."""

import errno
import os
import subprocess
import sys

import pytest
from filelock import FileLock

from model.common.files import NotWrittenError
from model.common.fingerprints import PROJECT
from model.common.locks import NamedLock, NoLocksError

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
