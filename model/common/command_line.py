"""What every command of ``workflow_scripts`` shares: one line for a problem the user can solve, a traceback for a bug."""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from model.common.files import explained

_ALLOCATOR = "DefaultCPUAllocator"
"""Who reports, in PyTorch, that the machine has no memory left; the error itself is an ordinary RuntimeError."""
_PLAIN = {"±": "+-", "×": "x", "→": "->", "–": "-", "≥": ">=", "≤": "<=", "✓": "+", "✗": "x"}
"""What stands for signs where only ASCII can be printed."""


def run(main: Callable[[], None]) -> None:
    """Call a script's ``main``; problems with input end it with ``error: …`` on stderr and exit status 1.

    Every error class of Segue is a ``ValueError`` that says what to do; files and folders raise ``OSError``, to which a remedy
    is added here, and so it is to memory that ran out. Anything else is a bug and keeps its traceback, as everything does with
    ``SEGUE_TRACEBACK=1``.
    A stop request is neither: one line, and the exit status of a process that the signal ends; nor is a closed output,
    as in ``… | head``.
    """
    _print_what_can_be_printed()
    try:
        with _asked_to_stop():
            main()
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more when it ends
        sys.exit(128 + signal.SIGPIPE)
    except Stopped as stop:
        print(f"stopped by {stop.signal.name}; run it again to have it done", file=sys.stderr, flush=True)
        sys.exit(128 + stop.signal)
    except (ValueError, OSError) as error:
        if os.environ.get("SEGUE_TRACEBACK") == "1":
            raise
        text = str(error)
        if isinstance(error, OSError) and not isinstance(error, ValueError):  # not one of ours: it names no remedy
            text = f"{error.filename or 'a file'}: {explained(error)}"
        _end(text)
    except Exception as error:
        line = _out_of_memory(error)
        if line is None or os.environ.get("SEGUE_TRACEBACK") == "1":
            raise
        _end(line)


def say(text: str) -> None:
    """One line for the log, at once."""
    print(text, flush=True)


def _out_of_memory(error: Exception) -> str | None:
    """A line about memory that ran out, of the GPU or of the machine; None for anything else."""
    reason = next(iter(str(error).splitlines()), "").rstrip(". ")
    if type(error).__name__ == "OutOfMemoryError":  # by name: commands that need no network do not wait for torch
        return (
            f"the GPU has not enough memory ({reason}); raise 'accumulate' in the recipe, set micro_batch or use more GPUs "
            "(docs/cluster.md), or use a larger one"
        )
    allocator = reason.find(_ALLOCATOR)
    if isinstance(error, MemoryError) or allocator >= 0:
        job, files = Path(sys.argv[0]).name, [text for text in sys.argv[1:] if os.path.isfile(text)]
        what = f"{job} has not enough memory ({reason[max(allocator, 0) :] or 'nothing more is known'})"
        read = f", reading {', '.join(files)}" if files else ""
        return (
            f"{what}{read}: give the job more (mem_mb of the profile), run fewer jobs at once (--cores), or take smaller "
            "images or batches"
        )
    return None


class Stopped(BaseException):
    """A signal asked this process to stop.

    Attributes:
        signal: which one.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = signal.Signals(number)


@contextmanager
def _asked_to_stop() -> Iterator[None]:
    """Raise :class:`Stopped` at a signal that asks to stop, in this process; those that it starts end as they always do."""
    own = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() == own:
            raise Stopped(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    numbers = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(text: str) -> NoReturn:
    print(f"error: {text}", file=sys.stderr, flush=True)
    sys.exit(1)


def _print_what_can_be_printed() -> None:
    """Let no character end a command: a terminal or log that knows only ASCII gets a near relation of it."""
    codecs.register_error("segue.plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="segue.plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    return "".join(_PLAIN.get(sign) or _without_accents(sign) for sign in text), error.end


def _without_accents(sign: str) -> str:
    return unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode() or "?"


def read_argument(text: str) -> str:
    """The value of an argument that may be long: itself, or after ``@`` the name of the file that holds it.

    Raises:
        OSError: if there is no such file.
    """
    return Path(text[1:]).read_text(encoding="utf-8") if text.startswith("@") else text


def prefer_checkout(project: Path) -> None:
    """Let the jobs that this process starts run a checkout's code, even if another one is installed in their environment."""
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(project), os.environ.get("PYTHONPATH")]))
