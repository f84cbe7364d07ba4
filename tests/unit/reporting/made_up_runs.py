"""A small made-up comparison of runs, written the way evaluation jobs write."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from model.evaluation.metrics.confusion import ConfusionAccumulator
from model.reporting.records import CONFUSION, EvaluationRecord, Measurement, Run, measure
from model.scenario import Scenario, class_groups

SCENARIO = Scenario("2-1", ((1, 2), (3,), (4,)))
NAMES = {1: "sky", 2: "sea", 3: "cat", 4: "dog"}


def evaluate(
    folder: Path, classes: tuple[int, ...], step: int, hits: float, seed: int = 0, protocol: str = "segue"
) -> Path:
    """Write the record of a network that is right in a fraction ``hits`` of the pixels."""
    rng = np.random.default_rng([seed, step, round(1000 * hits)])
    counting = ConfusionAccumulator(tuple(NAMES), classes, background_id=255)
    position = {category: index + 1 for index, category in enumerate(classes)}
    for _ in range(3):
        labels = rng.integers(1, 5, (16, 16))
        right = np.vectorize(lambda c: position.get(c, 0))(labels)
        counting.add(
            labels, np.where(rng.random(labels.shape) < hits, right, rng.integers(0, len(classes) + 1, (16, 16)))
        )
    folder.mkdir(parents=True)
    counting.matrix().save(folder / "confusion.npz")
    path = folder / "evaluation.json"
    record = EvaluationRecord(
        dataset="toy",
        task="semantic",
        protocol=protocol,
        step=step,
        classes=classes,
        names={category: NAMES[category] for category in classes},
        things=(3, 4),
        background_is_labelled=False,
        images=3,
        per_class={},
        files={CONFUSION: "confusion.npz"},
    )
    record.write(path)
    return path


def run(method: str, seed: int = 0, scenario: str = SCENARIO.name) -> Run:
    return Run("toy", "semantic", scenario, "overlapped", "tiny", method, seed)


def measure_run(folder: Path, method: str, hits: tuple[float, ...], seed: int = 0) -> list[Measurement]:
    """Evaluate and measure all steps of a run of :data:`SCENARIO`."""
    found = []
    for step, fraction in enumerate(hits):
        path = evaluate(folder / f"{method}-{seed}-{step}", SCENARIO.step(step).seen, step, fraction, seed)
        found.append(measure(path, run(method, seed), step, class_groups(SCENARIO, step)))
    return found


def measure_joint(folder: Path, hits: float, seed: int = 0) -> list[Measurement]:
    """The upper bound: one training on everything, its classes sorted, averaged at every step of the scenario."""
    path = evaluate(folder / f"joint-{seed}", (1, 2, 3, 4), 0, hits, seed)
    return [
        measure(path, run("joint", seed), step, class_groups(SCENARIO, step), known_later=step < SCENARIO.last)
        for step in range(SCENARIO.last + 1)
    ]
