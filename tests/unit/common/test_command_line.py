"""What ends a command: one line for what a user can solve, a traceback for a bug."""

import pytest
import torch

from model.common.command_line import run


def raising(error: BaseException):
    def main() -> None:
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.png is empty: copy it again"), "a.png is empty: copy it again"),
        (
            FileNotFoundError(2, "No such file or directory", "a.json"),
            "a.json: no such file or directory; check the path",
        ),
        (PermissionError(13, "Permission denied", "a.json"), "a.json: permission denied; make the folder writable"),
        (OSError(28, "No space left on device"), "a file: no space left on device; free some space"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nmore"),
            "the GPU has not enough memory (CUDA out of memory. Tried to allocate 2 GiB); raise 'accumulate'",
        ),
    ],
)
def test_a_problem_is_one_line_with_a_remedy(error: BaseException, line: str, capsys, monkeypatch):
    monkeypatch.delenv("SEGUE_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as end:
        run(raising(error))
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith(f"error: {line}") and said.count("\n") == 1
    monkeypatch.setenv("SEGUE_TRACEBACK", "1")
    with pytest.raises(type(error)):
        run(raising(error))


def test_a_bug_keeps_its_traceback():
    with pytest.raises(KeyError):
        run(raising(KeyError("x")))
