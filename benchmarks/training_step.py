"""A training step of Mask2Former with the compiled deformable attention against the same step with PyTorch's.

    python benchmarks/training_step.py --pairs 15
    python benchmarks/training_step.py --network tiny --crop 64 --batch 8 --threads 1 --pairs 61

Both alternate on one network in one process (forward, losses, backward, optimiser; random weights and targets); reported
are the medians and the ratio. Peak memory is that of a process that ran three steps with one operator only.
``r50`` is the published network on a 640 × 640 crop, ``tiny`` that of ``config/recipes/mask2former-tiny-shapes.yaml``.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import yaml

import ops.library
from model.data.loading.mask_batch import MaskTargets
from model.losses.point_sampling import uniform_points
from model.losses.query_classification import query_cross_entropy
from model.networks.mask2former.network import build_mask2former

ROOT = Path(__file__).resolve().parents[1]
TINY_RECIPE = ROOT / "config" / "recipes" / "mask2former-tiny-shapes.yaml"


def network_of(name: str) -> dict[str, Any]:
    """Arguments of ``build_mask2former``: its defaults are the published network."""
    if name == "r50":
        return {"norm": "bn"}  # weights are random, so statistics must be those of the batch
    recipe: dict[str, Any] = yaml.safe_load(TINY_RECIPE.read_text(encoding="utf-8"))["network"]
    return {key: value for key, value in recipe.items() if key != "name"}


def make_step(network_arguments: dict[str, Any], classes: int, crop: int, batch: int) -> Callable[[], None]:
    """A function that runs one training step."""
    torch.manual_seed(0)
    network = build_mask2former([classes], **network_arguments).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)
    images = torch.randn(batch, 3, crop, crop)
    targets = [MaskTargets(torch.randint(classes, (6,)), torch.rand(6, crop, crop) < 0.2) for _ in range(batch)]
    class_loss = partial(query_cross_entropy, no_object_weight=0.1)
    draw = uniform_points(torch.device("cpu"))

    def step() -> None:
        losses = network.criterion(network(images).predictions, targets, class_loss, draw)
        loss = torch.stack([2 * each.classification + 5 * each.mask + 5 * each.dice for each in losses]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    return step


def peak_memory() -> float:
    """Peak memory of this process in MiB (Linux); getrusage would include that of the calling process."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def alternate(step: Callable[[], None], pairs: int) -> dict[str, list[float]]:
    """Seconds of every step with each operator, alternating; the first two rounds are not counted."""
    durations: dict[str, list[float]] = {"compiled": [], "pytorch": []}
    choices = {"compiled": ops.library.IMPLEMENTATION, "pytorch": ops.library.Implementation("pytorch")}
    for pair in range(pairs + 2):
        for name, implementation in choices.items():
            with patch("ops.attention.IMPLEMENTATION", implementation):
                start = time.perf_counter()
                step()
            if pair >= 2:
                durations[name].append(time.perf_counter() - start)
    return durations


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=["r50", "tiny"], default="r50")
    parser.add_argument("--crop", type=int, default=640)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peak", action="store_true", help="run three steps with the operator of SEGUE_OPS; print MiB")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    classes = {"tiny": 10, "r50": 150}[arguments.network]
    step = make_step(network_of(arguments.network), classes, arguments.crop, arguments.batch)
    if arguments.peak:
        for _ in range(3):
            step()
        print(json.dumps(peak_memory()))
        return

    if not ops.library.IMPLEMENTATION.devices:
        sys.exit(
            "training_step: the compiled operator is not there; build it with `python setup.py build_ext --inplace`"
        )
    print(
        f"{arguments.network}, crop {arguments.crop}, batch {arguments.batch}, {arguments.threads} threads, "
        f"{ops.library.IMPLEMENTATION.describe()}, torch {torch.__version__}"
    )
    if hasattr(os, "getloadavg"):
        print("load average", *(f"{load:.2f}" for load in os.getloadavg()))
    durations = alternate(step, arguments.pairs)
    ratios = [ours / theirs for ours, theirs in zip(durations["compiled"], durations["pytorch"], strict=True)]
    for name, values in durations.items():
        command = [sys.executable, __file__, *sys.argv[1:], "--peak"]
        environment = {**os.environ, "SEGUE_OPS": name, "PYTHONPATH": str(ROOT)}
        peak = json.loads(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)
        print(f"{name:<10}{statistics.median(values) * 1e3:>10.1f} ms, peak memory {peak:>8.0f} MiB")
    quartiles = statistics.quantiles(ratios, n=4)
    print(
        f"compiled / pytorch: median {statistics.median(ratios):.3f}, quartiles {quartiles[0]:.3f} {quartiles[2]:.3f}"
    )


if __name__ == "__main__":
    main()
