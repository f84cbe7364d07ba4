"""What this machine has, what is missing, and what to do about it. Changes nothing; always ends well."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata, util
from pathlib import Path

from model.common.command_line import run
from model.config.reading import load_config
from model.data.download.archives import describe
from model.data.prepared.dataset import DATASET
from model.data.sources import registry as sources
from model.networks.initial_weights import check_content
from model.networks.weights_entry import origin, to_fetch, weights_file

MINIMUM_PYTHON = (3, 11)
GIB = 2**30


def first_line(*command: str) -> str | None:
    """First line that a command prints, None if it cannot be run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = (done.stdout or done.stderr).strip().splitlines()
    return lines[0] if done.returncode == 0 and lines else None


def version_of(package: str) -> str | None:
    """Installed version of a distribution, None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def python() -> tuple[bool, str]:
    """The interpreter."""
    return sys.version_info >= MINIMUM_PYTHON, f"{platform.python_version()} ({sys.executable})"


def torch_and_driver() -> tuple[bool, str]:
    """torch, and whether the driver fits the CUDA it was built for."""
    import torch

    text = f"torch {torch.__version__}, torchvision {version_of('torchvision')}; "
    driver = first_line("nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader")
    if torch.version.cuda is None:
        return True, text + "built without CUDA: everything runs on the CPU"
    text += f"built for CUDA {torch.version.cuda}; "
    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return True, text + f"driver {driver}; GPUs: {names}"
    if driver is None:
        return True, text + "no NVIDIA driver: everything runs on the CPU"
    return (
        False,
        text + f"driver {driver} does not support this CUDA: update the driver, or install a torch built for it",
    )


def compiler() -> tuple[bool, str]:
    """The compilers for the ops."""
    cxx = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    nvcc = shutil.which("nvcc")
    text = (first_line(cxx, "--version") or cxx) if cxx else "no C++ compiler: the ops run in PyTorch, slower"
    return True, f"{text}; {'nvcc at ' + nvcc if nvcc else 'no nvcc: CUDA ops are not compiled here'}"


def ops() -> tuple[bool, str]:
    """Which deformable-attention implementation is in use."""
    from ops.library import IMPLEMENTATION

    return True, f"{IMPLEMENTATION.describe()} (SEGUE_OPS={os.environ.get('SEGUE_OPS', 'auto')})"


def snakemake() -> tuple[bool, str]:
    """The workflow engine."""
    version = version_of("snakemake")
    return version is not None, version or "missing: run `make setup`"


def slurm() -> tuple[bool, str]:
    """Whether jobs can be submitted to a cluster from here."""
    plugin, sbatch = version_of("snakemake-executor-plugin-slurm"), shutil.which("sbatch")
    if sbatch is None:
        return True, f"no sbatch here: workstation only (plugin {plugin or 'not installed'})"
    text = first_line("sbatch", "--version") or sbatch
    return plugin is not None, f"{text}; plugin {plugin or 'missing: run `make setup`'}"


def detectron2() -> tuple[bool, str]:
    """The optional package."""
    if util.find_spec("detectron2") is None:
        return True, "not installed; never required (pip install '.[detectron2]' builds it from its repository)"
    return True, f"{version_of('detectron2')}"


def disk() -> tuple[bool, str]:
    """Free space for results."""
    folder = Path("results") if Path("results").is_dir() else Path()
    usage = shutil.disk_usage(folder)
    enough = usage.free > 2 * GIB
    text = f"{usage.free / GIB:.1f} GiB free of {usage.total / GIB:.1f} GiB"
    return enough, text + ("" if enough else ": less than 2 GiB, free some before training")


def datasets(configuration: Path) -> list[tuple[str, bool, str]]:
    """One line per configured dataset: whether it is there, or what is missing and how to get it."""
    config = load_config(configuration)
    lines = []
    for name, entry in config.datasets.items():
        try:
            folder = Path(config.results) / "data" / name
            sources.refuse_overlaps(entry.kind, entry.options, name, Path(config.results))
            categories = sources.categories(entry.kind, entry.options, folder)
            problems = sources.missing(entry.kind, entry.options)
            pending = ", ".join(describe(one) for one in sources.pending(entry.kind, entry.options))
            if pending:
                lines.append((f"dataset {name}", True, f"the workflow will download {pending}"))
                continue
            short, is_error = sources.incomplete(entry.kind, entry.options) if not problems else ([], False)
            raw = sources.state_of(entry.kind, entry.options, folder, entry.verify == "content")
            state = "prepared" if (folder / DATASET).is_file() else "not prepared yet: `make demo` or snakemake does it"
            if raw.changes:
                state = f"will be prepared again: {raw.sentence}"
            part = f" (incomplete: {'; '.join(short)})" if short else ""
            text = raw.note or "; ".join(problems) or f"{len(categories)} classes, {state}{part}"
            lines.append((f"dataset {name}", bool(raw.note) or not (problems or (short and is_error)), text))
        except (ValueError, OSError) as error:
            lines.append((f"dataset {name}", False, str(error)))
    return lines


def weights(configuration: Path) -> list[tuple[str, bool, str]]:
    """One line per recipe with initial weights: where they come from, under which licence, and whether they are there."""
    config = load_config(configuration)
    lines = []
    for name in sorted({experiment.recipe for experiment in config.experiments}):
        entry = config.recipes[name].network.get("weights")
        if entry is None:
            continue
        try:
            if to_fetch(entry):
                lines.append((f"weights of {name}", True, f"the workflow will download {origin(entry)}"))
                continue
            check_content(config.recipes[name].network)
            lines.append((f"weights of {name}", True, f"{weights_file(entry)} ({origin(entry)})"))
        except ValueError as error:
            lines.append((f"weights of {name}", False, f"{error} ({origin(entry)})"))
    return lines


CHECKS = {
    "Python": python,
    "torch": torch_and_driver,
    "compiler": compiler,
    "ops": ops,
    "Snakemake": snakemake,
    "SLURM": slurm,
    "detectron2": detectron2,
    "disk": disk,
}


def main() -> None:
    """Parse the command line and print one line per check."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configfile", type=Path, default=Path("config.yaml"), help="whose datasets to look for")
    arguments = parser.parse_args()
    lines = [(name, *check()) for name, check in CHECKS.items()]
    lines += datasets(arguments.configfile) + weights(arguments.configfile)
    width = max(len(name) for name, _, _ in lines)
    for name, good, text in lines:
        print(f"{'ok ' if good else '!! '} {name:<{width}}  {text}")
    wrong = sum(not good for _, good, _ in lines)
    print(f"\n{wrong} problem{'s' * (wrong != 1)}." if wrong else "\nEverything needed is there.")


if __name__ == "__main__":
    run(main)
