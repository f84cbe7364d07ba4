"""``srun`` and ``scontrol`` for tests without SLURM: the tasks of a job step are processes of this machine.

Like the real one, it marks the lines of each task; it passes SIGUSR1 on to all processes of the tasks, and SIGTERM ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO

import psutil

NODES = {"NodeList": "node[1-2]", "NodeAddr": "127.0.0.1"}


def install(folder: Path) -> str:
    """Write both programs into a folder; a search path that finds them first."""
    folder.mkdir()
    for name in ("srun", "scontrol"):
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        file.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def scontrol(what: str) -> int:
    print("node1\nnode2" if what == "hostnames" else " ".join(f"{key}={value}" for key, value in NODES.items()))
    return 0


def srun(arguments: list[str]) -> int:
    options = [argument for argument in arguments if argument.startswith("--")][: arguments.index(sys.executable)]
    command = arguments[arguments.index(sys.executable) :]
    count = int(next(option for option in options if option.startswith("--ntasks=")).split("=")[1])
    tasks = [
        subprocess.Popen(
            command,
            env={**os.environ, "SLURM_PROCID": str(number), "SLURM_NTASKS": str(count)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for number in range(count)
    ]

    def pass_on(number: int, frame: object) -> None:
        for task in tasks:
            with suppress(psutil.NoSuchProcess):
                started = psutil.Process(task.pid)
                for process in [started, *started.children(recursive=True)]:
                    process.send_signal(signal.SIGKILL if number == signal.SIGTERM else number)

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, pass_on)

    def mark(task: int, pipe: IO[bytes], to: IO[bytes]) -> None:
        for line in iter(pipe.readline, b""):
            to.write(f"{task}: ".encode() + line)
            to.flush()

    pairs = [(task.stdout, sys.stdout.buffer) for task in tasks], [(task.stderr, sys.stderr.buffer) for task in tasks]
    readers = [
        threading.Thread(target=mark, args=(number, *pair)) for kind in pairs for number, pair in enumerate(kind)
    ]
    for reader in readers:
        reader.start()
    codes = [task.wait() for task in tasks]
    for number, code in enumerate(codes):
        if code:
            print(f"srun: error: node{number + 1}: task {number}: ended with {code}", file=sys.stderr, flush=True)
    return max(abs(code) for code in codes)


if __name__ == "__main__":
    sys.exit(srun(sys.argv[2:]) if sys.argv[1] == "srun" else scontrol(sys.argv[3]))
