"""``srun`` and ``scontrol`` for tests without SLURM: the tasks of a job step are processes of this machine.

Like the real one, it marks the lines of each task and passes SIGUSR1 on to all processes; SIGTERM or a failed task ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
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
                for process in [*psutil.Process(task.pid).children(recursive=True), psutil.Process(task.pid)]:
                    with suppress(psutil.NoSuchProcess):
                        process.send_signal(signal.SIGKILL if number == signal.SIGTERM else number)

    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, pass_on)

    def mark(task: int, pipe: IO[bytes], to: IO[bytes]) -> None:
        for line in iter(pipe.readline, b""):
            to.write(f"{task}: ".encode() + line)
            to.flush()

    pairs = [(task.stdout, sys.stdout.buffer) for task in tasks], [(task.stderr, sys.stderr.buffer) for task in tasks]
    readers = [
        threading.Thread(target=mark, args=(number, *pair), daemon=True)
        for kind in pairs
        for number, pair in enumerate(kind)
    ]
    for reader in readers:
        reader.start()
    while any(task.poll() is None for task in tasks):
        if any(task.returncode for task in tasks) and "--kill-on-bad-exit=1" in options:
            pass_on(signal.SIGTERM, None)
        time.sleep(0.05)
    for reader in readers:
        reader.join(5)
    for number, task in enumerate(tasks):
        if task.returncode:
            print(
                f"srun: error: node{number + 1}: task {number}: ended with {task.returncode}",
                file=sys.stderr,
                flush=True,
            )
    return max(abs(task.returncode) for task in tasks)


if __name__ == "__main__":
    sys.exit(srun(sys.argv[2:]) if sys.argv[1] == "srun" else scontrol(sys.argv[3]))
