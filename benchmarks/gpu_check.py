"""Build the compiled operators for the GPU present, and test and measure them and a training step on it.

    make gpu-check
    python benchmarks/gpu_check.py --device cpu --crop 128 --small      a dry run on the CPU

Steps, each in a process of its own; one table at the end. The exit status is 0 if every step that could run succeeded.

    build       the library for this GPU's architecture (needs a CUDA toolkit; the CPU part alone does not count as success)
    tests       tests/unit/ops with SEGUE_OPS=compiled
    benchmark   benchmarks/ms_deform_attn.py in float32 and bfloat16
    measures    the same with a library built without one measure of the CUDA kernels: footprints shared by the threads of a
                head, loops over four points, 16-byte accesses; slower means that the measure pays
    training    forward, losses, backward of Mask2Former (ResNet-50, random weights and targets) in fp32 and bf16, with the
                compiled operator and with PyTorch's: seconds per step (median) and peak memory; in fp32 also with TensorFloat-32
                and with torch.compile of backbone and pixel decoder (switches of a recipe)
    waits       how often a training step makes the host wait for the card (torch.cuda.set_sync_debug_mode; none on a CPU)
    pinning     moving the batch of a training step to the card from pinned memory, against pageable memory
    processes   tests/unit/training/test_distributed_cuda.py: two GPUs through NCCL, and passes of fewer images on one, find what
                one training step finds; skipped, and said so, as far as there are too few
    evaluation  benchmarks/evaluation_forward.py: normalisation folded and channels last, against the network as trained
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
SMALL: dict[str, Any] = {
    "backbone": "resnet18",
    "channels": 64,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "points": 256,
    "queries": 20,
}


MEASURES = {
    "SHARED_FOOTPRINTS": "shared footprints",
    "FOUR_POINTS": "loops over four points",
    "WIDE_ACCESS": "16-byte accesses",
}
"""What ``ops/csrc/cuda/kernels.cuh`` can be compiled without, by the end of the macro's name."""

SWITCHES = ("fp32", "bf16", "tf32", "compiled")
"""What a training step is measured with; the last two in single precision."""


def training_step(
    device: torch.device, switch: str, crop: int, batch: int, repeats: int, small: bool
) -> dict[str, float | None]:
    """Seconds (median), peak memory and waits of a training step; runs in the process that measures it."""
    sys.path.insert(0, str(ROOT))
    from model.data.loading.mask_batch import MaskTargets
    from model.losses.point_sampling import uniform_points
    from model.losses.query_classification import query_cross_entropy
    from model.networks.mask2former.network import build_mask2former
    from model.training.job import compile_parts
    from model.training.seeds import configure_numerics

    if device.type == "cuda":
        configure_numerics(device, tf32=switch == "tf32")
    torch.manual_seed(0)
    classes, segments = 100, 12
    network = build_mask2former([classes], norm="bn", **(SMALL if small else {})).to(device).train()
    compile_parts(network if switch == "compiled" else None)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)
    images = torch.randn(batch, 3, crop, crop, device=device)
    targets = [
        MaskTargets(
            torch.randint(classes, (segments,), device=device), torch.rand(segments, crop, crop, device=device) < 0.2
        )
        for _ in range(batch)
    ]
    class_loss = partial(query_cross_entropy, no_object_weight=0.1)
    draw = uniform_points(device)
    durations = []
    waits = None
    for repeat in range(repeats + 2):
        if repeat == 2 and device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        start = time.perf_counter()
        with waiting(device) as found:
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=switch == "bf16"):
                outputs = network(images)
            losses = network.criterion(outputs.predictions, targets, class_loss, draw)
            loss = torch.stack([2 * each.classification + 5 * each.mask + 5 * each.dice for each in losses]).sum()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        waits = len(found) if device.type == "cuda" else None
        if not torch.isfinite(loss):  # also waits for the card
            raise FloatingPointError(f"the loss is {loss.item()}")
        if repeat >= 2:
            durations.append(time.perf_counter() - start)
    memory = torch.cuda.max_memory_allocated(device) / 2**20 if device.type == "cuda" else None
    return {"seconds": statistics.median(durations), "peak_mib": memory, "waits": waits}


@contextmanager
def waiting(device: torch.device) -> Iterator[list[warnings.WarningMessage]]:
    """Gathers one warning for each operation in the block that makes the host wait for the card."""
    with warnings.catch_warnings(record=True) as found:
        if device.type != "cuda":
            yield []
            return
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            gathered: list[warnings.WarningMessage] = []
            yield gathered
            gathered += [one for one in found if "synchroniz" in str(one.message)]
        finally:
            torch.cuda.set_sync_debug_mode("default")


def pinning(device: torch.device, crop: int, batch: int, repeats: int) -> dict[str, float | None]:
    """Seconds (median) until a batch of a training step is on the device, from pinned and from pageable memory."""
    sys.path.insert(0, str(ROOT))
    from model.data.loading.mask_batch import MaskBatch, MaskTargets

    targets = tuple(MaskTargets(torch.arange(12), torch.zeros(12, crop, crop, dtype=torch.bool)) for _ in range(batch))
    names = tuple(map(str, range(batch)))
    replayed = torch.zeros(batch, dtype=torch.bool)
    pageable = MaskBatch(torch.randn(batch, 3, crop, crop), targets, [(crop, crop)] * batch, names, replayed)
    on_card = device.type == "cuda"
    durations: dict[str, list[float]] = {"pinned": [], "pageable": []}
    for _ in range(repeats + 2):
        for kind, content in (("pinned", pageable.pin_memory() if on_card else pageable), ("pageable", pageable)):
            start = time.perf_counter()
            content.to(device)
            if on_card:
                torch.cuda.synchronize(device)
            durations[kind].append(time.perf_counter() - start)
    return {kind: statistics.median(values[2:]) for kind, values in durations.items()}


def run(command: list[str], timeout: float, **environment: str) -> tuple[bool, str]:
    """Whether a step succeeded, and its complete output."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=False, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return False, f"took longer than {timeout:.0f} s"
    return done.returncode == 0, done.stdout + done.stderr


def last_line(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "no output"


def describe(measured: dict[str, float | None]) -> str:
    memory = measured["peak_mib"]
    waits = measured["waits"]
    return (
        f"{(measured['seconds'] or 0.0) * 1e3:9.1f} ms"
        + (f", peak {memory:9.0f} MiB" if memory is not None else "")
        + (f", {waits:.0f} waits" if waits is not None else "")
    )


def build(device: torch.device, *options: str, **environment: str) -> tuple[bool, str]:
    command = [sys.executable, "setup.py", "build_ext", *(options or ["--inplace"])]
    if device.type != "cuda":
        return run(command, 600, SEGUE_BUILD="required", **environment)
    major, minor = torch.cuda.get_device_capability(device)
    architecture = {"TORCH_CUDA_ARCH_LIST": f"{major}.{minor}"}
    good, output = run([*command, "--force"], 600, SEGUE_BUILD="required", **architecture, **environment)
    if good and "ms_deform_attn.cu" not in output:
        return False, f"{output}\nno CUDA toolkit was found: set CUDA_HOME to its root"
    return good, output


def benchmark(device: torch.device, small: bool, package: Path = ROOT) -> tuple[bool, str, list[dict[str, Any]]]:
    """Times of the operator in ``package/ops``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "timings.json"
        command = [sys.executable, "benchmarks/ms_deform_attn.py", "--device", str(device), "--json", str(file)]
        command += ["--geometry", "tiny" if small else "m2f", "--dtype", "float32", "bfloat16", "--locations", "local"]
        paths = os.pathsep.join([str(package), str(ROOT)])
        good, output = run(command, 600, SEGUE_OPS="compiled", PYTHONPATH=paths)
        return good, output, json.loads(file.read_text(encoding="utf-8")) if good else []


def benchmark_without(measure: str, device: torch.device, small: bool) -> tuple[bool, str, list[dict[str, Any]]]:
    """The same for a library that is compiled without one of :data:`MEASURES`, in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder)
        options = ["--build-lib", str(package), "--build-temp", str(package / "objects")]
        good, output = build(device, *options, NVCC_APPEND_FLAGS=f"-DSEGUE_WITHOUT_{measure}")
        if not good:
            return False, output, []
        for file in (ROOT / "ops").glob("*.py"):
            shutil.copy(file, package / "ops")
        return benchmark(device, small, package)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", type=torch.device)
    parser.add_argument("--crop", type=int, default=640)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--small", action="store_true", help="a small network and the tiny benchmark")
    parser.add_argument("--training-step", choices=SWITCHES, help="measure this step only and print JSON")
    parser.add_argument("--pinning", action="store_true", help="measure the moving of a batch only and print JSON")
    arguments = parser.parse_args()
    device = arguments.device
    if device.type == "cuda" and not torch.cuda.is_available():
        print("gpu-check: torch sees no GPU here, so there is nothing to check.")
        return 1
    if arguments.training_step:
        sizes = (arguments.crop, arguments.batch, arguments.repeats, arguments.small)
        print(json.dumps(training_step(device, arguments.training_step, *sizes)))
        return 0
    if arguments.pinning:
        print(json.dumps(pinning(device, arguments.crop, arguments.batch, arguments.repeats)))
        return 0

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    rows: list[tuple[str, str]] = []
    failures: list[str] = []

    def note(step: str, good: bool, result: str, output: str) -> None:
        rows.append((step, result if good else f"FAILED: {last_line(output)}"))
        if not good:
            failures.append(f"--- {step}\n{output[-4000:]}")

    good, output = build(device)
    note("build", good, "built", output)
    good, output = run([sys.executable, "-m", "pytest", "-q", "tests/unit/ops"], 900, SEGUE_OPS="compiled")
    note("tests", good, last_line(output), output)
    good, output, timings = benchmark(device, arguments.small)
    if not good:
        note("benchmark", good, "", output)
    for row in timings:
        result = f"{row['ours'] * 1e3:9.3f} ms, grid_sample {row['baseline'] * 1e3:9.3f} ms, ratio {row['ratio']:6.1f}"
        rows.append((row["case"], result))
    for measure, words in MEASURES.items() if device.type == "cuda" else ():
        good, output, others = benchmark_without(measure, device, arguments.small)
        if not good:
            note(f"without {words}", good, "", output)
        for row, other in zip(timings, others, strict=False):
            slower = other["ours"] / row["ours"]
            rows.append(
                (f"  without {words}, {row['case']}", f"{other['ours'] * 1e3:9.3f} ms, {slower:5.2f} of the time")
            )
    own = [sys.executable, __file__, "--device", str(device), *["--small"] * arguments.small]
    for option in ("crop", "batch", "repeats"):
        own += [f"--{option}", str(getattr(arguments, option))]
    cases = [(precision, choice) for precision in ("fp32", "bf16") for choice in ("compiled", "pytorch")]
    for switch, choice in [*cases, ("tf32", "compiled"), ("compiled", "compiled")]:
        good, output = run([*own, "--training-step", switch], 900, SEGUE_OPS=choice)
        result = describe(json.loads(last_line(output))) if good else ""
        name_of = "fp32, torch.compile" if switch == "compiled" else switch
        note(f"training step {name_of}, {choice} op", good, result, output)
    good, output = run([*own, "--pinning"], 300)
    moved = json.loads(last_line(output)) if good else {}
    result = ", ".join(f"{kind} {seconds * 1e3:.2f} ms" for kind, seconds in moved.items())
    note("a batch to the device", good, result, output)
    good, output = run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "tests/unit/training/test_distributed_cuda.py"], 900
    )
    note(f"several processes, {torch.cuda.device_count()} GPUs", good, last_line(output), output)
    for network in ("mask2former-r50", "deeplabv3-r101"):
        command = [sys.executable, "benchmarks/evaluation_forward.py", "--device", str(device), "--network", network]
        sizes = ["--size", str(arguments.crop), "--rounds", str(max(2, arguments.repeats))]
        good, output = run(command + sizes, 900)
        lines = [line for line in output.splitlines() if line.startswith("evaluation forward")]
        note(f"evaluation forward, {network}", good, lines[-1].partition(": ")[2] if lines else "", output)

    print(
        f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, crop {arguments.crop}, batch {arguments.batch}"
    )
    width = max(len(step) for step, _ in rows)
    for step, result in rows:
        print(f"{step:<{width}} {result}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    raise SystemExit(main())
