"""``python -m snakemake`` without importing torch, pandas and Snakemake again for every workflow and every job.

Importing takes most of the time of a tiny workflow. Here a server imports once; a workflow is forked from it, forks a server of
its own, and that one forks the jobs. Workflow and jobs are processes as ever, the jobs descendants of the workflow, and all
run the code of the checkout from its first line on; they get signals, and die, as they do without this.

    warm_snakemake.py --serve SOCKET         imports, then serves until its input is closed
    warm_snakemake.py ARGUMENTS              a workflow
    warm_snakemake.py --job SOCKET SCRIPT …  in place of Python: has a script run, and ends as it ends
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import sys

IMPORTED = (
    "numpy",
    "pandas",
    "PIL.Image",
    "pydantic",
    "scipy.ndimage",
    "snakemake.cli",
    "torch",
    "torch.utils.tensorboard",
)


class Running:
    """A script that a server runs, in a process of its own.

    Args:
        address: socket of the server.
        arguments: the script and what follows it.
        folder: where it runs.
        environment: all of its environment.
        files: its input, output and error output.
    """

    def __init__(
        self, address: str, arguments: list[str], folder: str, environment: dict[str, str], files: list[int]
    ) -> None:
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._server.connect(address)
        request = json.dumps([arguments, folder, environment]).encode()
        socket.send_fds(self._server, [len(request).to_bytes(8, "big")], files)
        self._server.sendall(request)
        self.pid = int.from_bytes(self._server.recv(8, socket.MSG_WAITALL), "big")
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, negative for a signal; None while it runs."""
        return self.wait() if self.returncode is not None or select.select([self._server], [], [], 0)[0] else None

    def wait(self) -> int:
        """How it ended, as soon as it has."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(
                int.from_bytes(self._server.recv(8, socket.MSG_WAITALL) or b"\1", "big")
            )
            self._server.close()
        return self.returncode


def run_job(address: str, arguments: list[str]) -> None:
    """Have a script run as if it were this process."""
    running = Running(address, arguments, os.getcwd(), dict(os.environ), [0, 1, 2])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: os.kill(running.pid, number))
    code = running.wait()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(listening: socket.socket, until: int) -> None:
    """Fork a process for every request, until a file is closed elsewhere and what was forked has ended."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    clients: dict[int, socket.socket] = {}
    closed = False
    while clients or not closed:
        ready, _, _ = select.select([listening, woken, *clients.values(), *([] if closed else [until])], [], [])
        closed = closed or until in ready
        if woken in ready:
            os.read(woken, 4096)
            while clients and (ended := os.waitpid(-1, os.WNOHANG))[0]:
                with clients.pop(ended[0]) as client:
                    try:
                        client.sendall(ended[1].to_bytes(8, "big"))
                    except OSError:
                        continue
        for process, client in clients.items():
            if client in ready and not client.recv(1):  # whoever asked was killed: so is the job
                os.kill(process, signal.SIGKILL)
        if listening in ready:
            client, _ = listening.accept()
            size, files, _, _ = socket.recv_fds(client, 8, 3)
            request = client.recv(int.from_bytes(size, "big"), socket.MSG_WAITALL)
            process = os.fork()
            if process == 0:
                run_here(json.loads(request), files)
            for file in files:
                os.close(file)
            client.sendall(process.to_bytes(8, "big"))
            clients[process] = client


def run_here(request: list, files: list[int]) -> None:
    """Run a script in this process, which was forked for it, and end it."""
    import runpy
    import traceback

    arguments, folder, environment = request
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, file in enumerate(files):
        os.dup2(file, number)
    os.closerange(3, 256)
    sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False, buffering=1)  # noqa: SIM115
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = arguments
    sys.path[:0] = [os.path.dirname(arguments[0]), *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    code = 0
    try:
        runpy.run_path(arguments[0], run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def run_workflow() -> None:
    """Fork the server of the jobs, and go on as Snakemake."""
    import tempfile
    from pathlib import Path

    import snakemake.cli

    with tempfile.TemporaryDirectory(prefix="warm") as folder:
        python, address = Path(folder) / "python", str(Path(folder) / "socket")
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -IS {__file__} --job {address} "$@"\n')
        python.chmod(0o700)
        ours, theirs = socket.socketpair()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(address)
            listening.listen()
            if (server := os.fork()) == 0:
                ours.close()
                try:
                    serve(listening, theirs.fileno())
                finally:
                    os._exit(0)
        theirs.close()
        sys.executable = str(python)
        sys.path[0] = ""
        try:
            snakemake.cli.main()
        finally:
            ours.close()
            os.waitpid(server, 0)


def main() -> None:
    """See above."""
    if sys.argv[1:2] == ["--job"]:
        run_job(sys.argv[2], sys.argv[3:])
    elif sys.argv[1:2] == ["--serve"]:
        import importlib

        for name in IMPORTED:
            importlib.import_module(name)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
            listening.bind(sys.argv[2])
            listening.listen()
            serve(listening, sys.stdin.fileno())
    else:
        run_workflow()


if __name__ == "__main__":
    main()
