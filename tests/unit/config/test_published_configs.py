"""config/published: every published scenario is there, and plans with the expected jobs without any data."""

import csv
from pathlib import Path

import pytest

from model.config.reading import load_config
from model.config.schema import Config
from model.methods import registry
from model.workflow.plan import Plan

PROJECT = Path(__file__).parents[3]
FILES = sorted((PROJECT / "config" / "published").glob("*.yaml"))
BOUNDS = {"joint", "finetuning"}
NOTHING = Path("nothing-lies-here")

# Counted by hand from the tables of the papers: runs of fine-tuning (scenarios x settings), trainings of steps after the
# base, different base steps, joint trainings (one where recipes agree about the base step).
EXPECTED = {
    "ade20k-instance-balconpas": (3, 1 + 5 + 10, 1, 1),
    "ade20k-instance-cisdq": (4, 3 + 1 + 5 + 10, 2, 1),
    "ade20k-panoptic-balconpas": (6, 1 + 5 + 10 + 2 + 5 + 10, 2, 1),
    "ade20k-panoptic-comformer": (7, 1 + 5 + 10 + 2 + 5 + 10 + 1, 2 + 1, 1),
    "ade20k-panoptic-eclipse": (6, 10 + 5 + 1 + 10 + 5 + 2, 2, 1),
    "ade20k-panoptic-orders": (9 + 10, 9 * 5 + 10 * 5, 9 + 10, 2),
    "ade20k-semantic-balconpas": (4, 1 + 5 + 10 + 2, 2, 1),
    "ade20k-semantic-comformer": (4 + 6, 1 + 5 + 10 + 2 + 2 * (1 + 5 + 2), 2 + 4, 1),
    "ade20k-semantic-dkd-star": (4, 1 + 5 + 10 + 2, 2, 1),
    "ade20k-semantic-eclipse": (3, 10 + 5 + 1, 1, 1),
    "ade20k-semantic-lgkd": (3, 1 + 5 + 2, 3, 2),
    "ade20k-semantic-mib": (6, 2 * (1 + 5 + 2), 4, 1),
    "ade20k-semantic-plop": (4, 1 + 5 + 10 + 2, 2, 1),
    "ade20k-semantic-sdr": (3, 1 + 5 + 2, 2, 1),
    "ade20k-semantic-ssul-barm": (4, 10 + 5 + 1 + 2, 2, 1),
    "coco-instance-cisdq": (5, 1 + 2 + 5 + 10 + 1, 2, 1),
    "coco-panoptic-eclipse": (3, 10 + 5 + 10, 2, 1),
    "voc-dkd-star": (5 + 3, (1 + 1 + 5 + 10 + 5) + (1 + 1 + 5), 4 + 2, 1),
    "voc-lgkd": (3, 1 + 1 + 5, 2, 2),
    "voc-longest": (2 * 4, 2 * (19 + 9) + 2 * (1 + 2), 2 * 2 + 2, 2),
    "voc-mib": (2 * 4, 2 * (1 + 1 + 5) + 2 * 1, 2 * 3, 1),
    "voc-orders": (23, 23 * 5, 23, 1),
    "voc-plop": (4 + 2 + 2, (1 + 1 + 5 + 5) + (1 + 5) + 2 * 10, 3 + 1 + 2, 1),
    "voc-sdr": (2 * 4 + 3, 2 * (1 + 1 + 5 + 10) + (1 + 1 + 5), 2 * 3 + 2, 2),
    "voc-ssul-barm": (8, 1 + 1 + 5 + 10 + 5 + 15 + 18 + 9, 5, 1),
}


@pytest.fixture(autouse=True)
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SEGUE_VOC", "SEGUE_ADE20K", "SEGUE_COCO", "SEGUE_LISTS", "SEGUE_WEIGHTS"):
        monkeypatch.setenv(name, str(NOTHING))


def load(name: str) -> Config:
    return load_config(PROJECT / "config" / "published" / f"{name}.yaml", PROJECT / "config" / "recipes")


def bounds(config: Config) -> Config:
    """The configuration with fine-tuning and joint training alone, where an experiment has them."""
    kept = []
    for experiment in config.experiments:
        entries = [entry for entry in experiment.methods if entry.name in BOUNDS]
        if entries:
            assert {entry.name for entry in entries} == BOUNDS
            kept.append(experiment.model_copy(update={"methods": entries}))
    return config.model_copy(update={"experiments": kept})


def test_every_file_with_bounds_is_counted():
    bounded = {
        file.stem for file in FILES if any(e.name in BOUNDS for x in load(file.stem).experiments for e in x.methods)
    }
    assert bounded == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_bounds_plan_with_the_expected_jobs_and_shared_base_steps(name):
    found = Plan(bounds(load(name)))
    runs, increments, bases, joint = EXPECTED[name]
    by_method = {method: [run for run in found.runs if run.method == method] for method in BOUNDS}
    assert len(by_method["finetuning"]) == len(by_method["joint"]) == runs
    assert sum(not training.shared for training in found.trainings.values()) == increments
    first = {run.trainings[0].directory for run in by_method["finetuning"]}
    every = {training.directory for run in by_method["joint"] for training in run.trainings}
    assert (len(first), len(every)) == (bases, joint) and not first & every
    assert len(found.trainings) == increments + bases + joint
    assert len(found.evaluations) == len(found.trainings)
    assert not NOTHING.exists() and not found.memories


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_the_whole_file_plans(name):
    found = Plan(load(name))
    assert len(found.runs) >= max(1, 2 * EXPECTED.get(name, (0,))[0])
    assert found.config.results == f"results/published/{name}"


def test_scenarios_with_prompts_of_their_own_share_the_base_step():
    found = Plan(load("ade20k-panoptic-eclipse"))
    runs = {run.scenario.name: run for run in found.runs if run.method == "eclipse"}
    assert len(runs) == 6 and len({run.recipe for run in runs.values()}) == 6
    first = {name: run.trainings[0].directory for name, run in runs.items()}
    assert len({first[name] for name in ("100-5", "100-10", "100-50")}) == 1
    assert len({first[name] for name in ("50-10", "50-20", "50-50")}) == 1
    assert len(set(first.values())) == 2
    later = runs["100-50"].trainings[1].spec["recipe"]
    assert (
        later["network"]["prompts"] == 50 and later["added_arguments"] == ["prompts"] and later["iterations"] == 80000
    )


def cells() -> dict[tuple[str, ...], set[tuple[str, str]]]:
    """(family, method) pairs of every dataset, task, scenario, setting and protocol of the files."""
    found: dict[tuple[str, ...], set[tuple[str, str]]] = {}
    for file in FILES:
        config = load(file.stem)
        for experiment in config.experiments:
            family = config.recipes[experiment.recipe].family
            for scenario in experiment.scenarios:
                for setting in experiment.settings:
                    for protocol in experiment.protocols:
                        key = (experiment.dataset, experiment.task, str(scenario), setting, protocol)
                        found.setdefault(key, set()).update((family, entry.title) for entry in experiment.methods)
    return found


def test_every_published_number_has_its_scenario_and_its_method_where_there_is_one():
    found, known = cells(), 0
    with (PROJECT / "config" / "published_results.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            key = (row["dataset"], row["task"], row["scenario"], row["setting"], row["protocol"])
            assert key in found, key
            for family in {family for family, _ in found[key]}:
                if row["method"] in registry.METHODS[family]:
                    assert (family, row["method"]) in found[key], (key, row["method"])
                    known += 1
    assert known > 500


@pytest.mark.parametrize(
    ("name", "scenario", "trainings"),
    [
        ("ade20k-panoptic-comformer", "100-10", (1 + 4 * 5) + 1),
        ("ade20k-semantic-comformer", "50-50", (2 + 2 * 4 * 2) + 1),
        ("ade20k-panoptic-eclipse", "100-5", (1 + 4 * 10) + 1 + (1 + 10)),
    ],
)
def test_methods_of_a_network_share_its_base_step(name, scenario, trainings):
    """One base step for fine-tuning, MiB, PLOP and CoMFormer (one a setting), one joint training; ECLIPSE has its own."""
    found = Plan(load(name))
    runs = [run for run in found.runs if run.scenario.name == scenario]
    assert len({training.directory for run in runs for training in run.trainings}) == trainings


@pytest.mark.parametrize("file", [file.stem for file in FILES if "comformer" in file.stem or "eclipse" in file.stem])
def test_bounds_run_on_comformers_network_and_are_read_as_it_is(file):
    found = Plan(load(file))
    for run in found.runs:
        if run.method in {"joint", "finetuning", "mib", "plop"} or run.method.startswith("comformer"):
            network = run.trainings[-1].spec["recipe"]["network"]
            assert (network["mask_activation"], network["class_loss"]) == ("softmax", "focal")
            for evaluation in run.evaluations["comformer"]:
                read = evaluation.spec["method"]["hyper_parameters"]
                assert (read["object_threshold"], read["overlap_threshold"]) == (0.0, 0.0)
                assert read["semantic_reading"] == "regions"


@pytest.mark.parametrize(
    ("name", "increments", "joint"),
    [("ade20k-panoptic-simcis", 5 + 10 + 5 + 10 + 1 + 2, 1), ("ade20k-semantic-simcis", 5 + 10 + 1, 1)],
)
def test_simcis_shares_base_steps_and_falls_as_published(name, increments, joint):
    found = Plan(load(name))
    bases = {run.trainings[0].directory for run in found.runs if run.method == "simcis"}
    assert sum(not training.shared for training in found.trainings.values()) == increments
    assert len(bases) == (2 if "panoptic" in name else 1)
    assert len(found.trainings) == increments + len(bases) + joint
    falls = {
        "100-50": (0.8, 0.9) if "panoptic" in name else (0.85, 0.95),
        "100-10": (0.85, 0.95),
        "100-5": (0.85, 0.95),
    }
    for run in found.runs:
        if run.method == "simcis" and run.scenario.name in falls:
            base, first = (training.spec["recipe"] for training in run.trainings[:2])
            assert base["iterations"] == 160_000 and base["schedule"]["milestones"] == (0.84375, 0.9375)
            assert first["iterations"] == 1_000 * len(run.trainings[1].spec["step"]["current"])
            assert first["schedule"]["milestones"] == falls[run.scenario.name]
            assert first["network"]["classes"] == 150
