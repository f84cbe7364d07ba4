"""A real SLURM on this machine, each of its nodes with two made-up GPUs, for as long as a test needs it.

Debian's packages are enough (``apt-get install -y --no-install-recommends slurm-wlm munge``): no database, no systemd, no
cgroups. Everything lies in a temporary folder except the two files that SLURM reads from a place compiled into it; they
are refused if they belong to somebody else and removed at the end. By hand:

    python tests/slurm/small_slurm.py -- snakemake --workflow-profile profiles/slurm-ci --configfile config/micro.yaml
"""

from __future__ import annotations

import argparse
import fcntl
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = Path("/etc/slurm")
MARK = "# Written for a test by small_slurm.py; removed when it ends.\n"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "sinfo")
DAEMONS = {"slurmd": "slurmd-*.pid", "slurmctld": "slurmctld.pid", "munged": "munge/pid"}
"""Name of each daemon to the files with its process numbers, in the order to end them."""
NULL_DEVICE = os.makedev(1, 3)


class ClusterError(RuntimeError):
    """The cluster does not start; the message holds what its daemons said."""


@dataclass(frozen=True)
class Cluster:
    """A running SLURM.

    Attributes:
        folder: keys, state and logs of the daemons.
        nodes: their names, each a daemon on this machine. The first one is that of the partitions ``cpu`` and ``gpu``, the others
            are those of the partition ``several``.
        gpus: number of made-up GPUs of each node.
    """

    folder: Path
    nodes: tuple[str, ...]
    gpus: int

    def logs(self) -> str:
        """What the daemons wrote, for messages."""
        return "\n".join(f"--- {file.name}\n{file.read_text()[-4000:]}" for file in sorted(self.folder.glob("log/*")))


def why_not() -> str | None:
    """The reason why no cluster can be started here, or None."""
    if os.geteuid() != 0:
        return "starting SLURM's daemons needs root"
    if Path("/dev/nvidiactl").exists():
        return "jobs would take the made-up GPUs for the real ones of this machine"
    missing = [name for name in PROGRAMS if program(name) is None]
    if missing:
        return f"no {', '.join(missing)}; apt-get install -y --no-install-recommends slurm-wlm munge"
    foreign = [str(file) for file in _configuration_files() if file.exists() and not file.read_text().startswith(MARK)]
    if foreign:
        return f"this machine has a SLURM of its own: {', '.join(foreign)}"
    return None


def program(name: str) -> str | None:
    """Where a program is; daemons are not always on a user's path."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


@contextmanager
def small_slurm(
    *, several: int = 0, gpus: int = 2, cpus: int = 4, memory: int = 8000, kill_wait: int = 120
) -> Iterator[Cluster]:
    """Start the daemons, wait until all nodes take jobs, and end everything afterwards.

    Args:
        several: nodes of a partition for jobs that take more than one.
        gpus: made-up devices of each node; jobs see them in ``CUDA_VISIBLE_DEVICES``.
        cpus: what each node claims to have, whatever the machine has.
        memory: megabytes that each node claims to have; nobody enforces it.
        kill_wait: seconds between the request to end at the time limit and the kill.

    Raises:
        ClusterError: if a daemon does not start.
    """
    with (Path(tempfile.gettempdir()) / "segue-slurm.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one at a time: the configuration has one place
        _stop_leftover()
        folder = Path(tempfile.mkdtemp(prefix="segue-slurm-"))
        cluster = Cluster(folder, tuple(f"node{number + 1}" for number in range(1 + several)), gpus)
        try:
            _prepare(cluster, cpus, memory, kill_wait)
            _start(cluster)
            yield cluster
        finally:
            _stop(cluster.folder)


def _configuration_files() -> list[Path]:
    return [CONFIGURATION / name for name in ("slurm.conf", "gres.conf")]


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [found.getsockname()[1] for found in sockets]
    for found in sockets:
        found.close()
    return ports


def _prepare(cluster: Cluster, cpus: int, memory: int, kill_wait: int) -> None:
    folder = cluster.folder
    folder.chmod(0o755)
    for name in ("munge", "state", "spool", "log", "dev"):
        (folder / name).mkdir()
    (folder / "munge").chmod(0o711)
    (folder / "munge" / "key").write_bytes(os.urandom(128))
    (folder / "munge" / "key").chmod(0o400)
    for number in range(cluster.gpus):  # SLURM shows only character devices to jobs
        os.mknod(folder / "dev" / f"nvidia{number}", 0o666 | stat.S_IFCHR, NULL_DEVICE)
    control_port, *node_ports = _free_ports(1 + len(cluster.nodes))
    claimed = f"NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:fake:{cluster.gpus} State=UNKNOWN"
    lines = "\n".join(
        f"NodeName={node} Port={port} {claimed}" for node, port in zip(cluster.nodes, node_ports, strict=True)
    )
    CONFIGURATION.mkdir(exist_ok=True)
    files = {
        "gres.conf": f"Name=gpu Type=fake File={folder}/dev/nvidia[0-{cluster.gpus - 1}]\n",
        "slurm.conf": f"""
ClusterName=segue
SlurmctldHost={socket.gethostname().split(".")[0]}(127.0.0.1)
SlurmctldPort={control_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait={kill_wait}
GresTypes=gpu
{lines}
PartitionName=cpu Nodes={cluster.nodes[0]} Default=YES State=UP
PartitionName=gpu Nodes={cluster.nodes[0]} State=UP
{f"PartitionName=several Nodes={','.join(cluster.nodes[1:])} State=UP" if cluster.nodes[1:] else ""}
""",
    }
    for name, text in files.items():
        (CONFIGURATION / name).write_text(MARK + text)


def _start(cluster: Cluster) -> None:
    munge = cluster.folder / "munge"
    _daemon(
        cluster,
        "munged",
        "--force",
        f"--key-file={munge}/key",
        f"--socket={munge}/socket",
        f"--pid-file={munge}/pid",
        f"--log-file={cluster.folder}/log/munged.log",
        f"--seed-file={munge}/seed",
    )
    _daemon(cluster, "slurmctld", "-c")
    for node in cluster.nodes:
        _daemon(cluster, "slurmd", "-N", node)
    deadline = time.monotonic() + 60
    ready = [f"{node} idle" for node in cluster.nodes]
    while sorted(set(_output("sinfo", "--noheader", "--Node", "--format=%N %T").splitlines())) != ready:
        if time.monotonic() > deadline:
            raise ClusterError(f"not every node takes jobs:\n{cluster.logs()}")
        time.sleep(0.2)


def _daemon(cluster: Cluster, name: str, *arguments: str) -> None:
    found = program(name)
    assert found is not None  # why_not() was asked before
    done = subprocess.run([found, *arguments], capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise ClusterError(f"{name} does not start: {done.stdout}{done.stderr}\n{cluster.logs()}")


def _output(name: str, *arguments: str) -> str:
    return subprocess.run([name, *arguments], capture_output=True, text=True, check=False).stdout


def _stop_leftover() -> None:
    """End a cluster whose test was killed."""
    with suppress(OSError):
        text = (CONFIGURATION / "slurm.conf").read_text()
        found = re.search(r"^StateSaveLocation=(.+)/state$", text, re.MULTILINE)
        if text.startswith(MARK) and found is not None:
            _stop(Path(found[1]))


def _stop(folder: Path) -> None:
    """End the jobs, then the daemons that this cluster's own files name, then remove the files."""
    with suppress(OSError, subprocess.SubprocessError):
        command = ["scancel", "--full", "--signal=KILL", "--user=root"]
        subprocess.run(command, capture_output=True, timeout=20, check=False)
    for name, files in DAEMONS.items():
        for file in folder.glob(files):
            with suppress(OSError, ValueError):
                pid = int(file.read_text())
                if Path(f"/proc/{pid}/comm").read_text().strip() == name:
                    _end(pid)
    for configuration in _configuration_files():
        with suppress(OSError):
            if configuration.read_text().startswith(MARK):
                configuration.unlink()
    shutil.rmtree(folder, ignore_errors=True)


def _end(pid: int, seconds: float = 10.0) -> None:
    """Ask a process to end, and insist when it has not done so in time."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Run a command with a cluster around it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--several", type=int, default=0, help="nodes of a partition 'several', beside that of the others"
    )
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND …")
    arguments = parser.parse_args()
    reason = why_not()
    if reason is not None:
        sys.exit(f"error: {reason}")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the daemons end as well
    with small_slurm(several=arguments.several):
        return subprocess.run(arguments.command[arguments.command[:1] == ["--"] :], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
