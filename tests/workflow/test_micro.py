"""What a run leaves: tables, records, logs, pictures, a report; and what it says before it starts."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml
from checkout import MICRO, Checkout, fresh_checkout

pytestmark = pytest.mark.xdist_group("micro")

COLUMNS = [
    "dataset",
    "task",
    "scenario",
    "setting",
    "recipe",
    "method",
    "seed",
    "step",
    "protocol",
    "group",
    "metric",
    "value",
]
RUN = "results/runs/shapes-micro/semantic_4-2_overlapped/deeplabv3-micro"


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_second_run_has_nothing_to_do(micro: Checkout):
    done = micro.snakemake()
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


def test_metrics_hold_every_method_step_and_group(micro: Checkout):
    found = rows(micro.folder / "results/tables/metrics.csv")
    assert list(found[0]) == COLUMNS
    values = {(r["method"], r["step"], r["group"]): float(r["value"]) for r in found if r["metric"] == "mIoU"}
    for method in ("finetuning", "finetuning-replay", "mib", "lwf"):
        assert {g for m, s, g in values if (m, s) == (method, "0")} == {"old", "current", "all"}
        assert {g for m, s, g in values if (m, s) == (method, "2")} == {"old", "new", "past", "current", "all"}
    assert {s for m, s, _ in values if m == "joint"} == {"0", "1", "2"}
    assert all(0 <= value <= 100 for value in values.values())


def test_methods_that_share_the_base_step_have_its_values(micro: Checkout):
    found = rows(micro.folder / "results/tables/metrics.csv")
    base = {(r["group"], r["metric"], r["value"], r["method"]) for r in found if r["step"] == "0"}
    by_method = {m: {entry[:3] for entry in base if entry[3] == m} for m in ("finetuning", "mib", "lwf")}
    assert by_method["finetuning"] == by_method["mib"] == by_method["lwf"]


def test_per_class_adds_the_class(micro: Checkout):
    found = rows(micro.folder / "results/tables/per_class.csv")
    assert set(found[0]) == {*COLUMNS, "class"}


def test_a_training_records_what_it_was_made_from(micro: Checkout):
    record = json.loads((micro.folder / RUN / "mib/seed0/step1/train.json").read_text())
    assert record["spec"]["method"] == {
        "name": "mib",
        "hyper_parameters": {"background_initialisation": True, "distillation_weight": 10.0},
    }
    assert record["spec"]["step"]["index"] == 1 and record["spec"]["seed"] == 0
    assert {"python", "torch"} <= record["versions"].keys()
    assert record["started"] <= record["ended"] and record["seconds"] > 0
    assert {"code", "git", "machine", "peak_memory"} <= record.keys()


def test_an_evaluation_records_what_it_was_made_from(micro: Checkout):
    record = json.loads((micro.folder / RUN / "mib/seed0/step1/evaluation/segue/evaluation.json").read_text())
    made_by = record["made_by"]
    assert made_by["spec"]["method"]["name"] == "mib" and made_by["spec"]["protocol"]["name"] == "segue"
    assert {"versions", "machine", "git", "started", "ended", "checkpoint"} <= made_by.keys()


def test_a_log_shows_progress_and_a_benchmark_the_cost_of_every_training(micro: Checkout):
    trained = list((micro.folder / "results").glob("runs/**/checkpoint.pt"))
    assert len(trained) == 8
    for checkpoint in trained:
        name = checkpoint.parent.relative_to(micro.folder / "results")
        log = (micro.folder / "results/logs" / name / "train.log").read_text()
        assert re.search(r"iteration 4/4 .*loss .*it/s .*left", log)
        assert (micro.folder / "results/benchmarks" / name / "train.tsv").read_text().startswith("s\t")


def test_the_memory_reaches_the_training_that_replays_and_no_other(micro: Checkout):
    memory = json.loads(next((micro.folder / "results/memory").rglob("step1.json")).read_text())
    assert len(memory["images"]) == 6 and memory["step"] == 1
    record = json.loads((micro.folder / RUN / "finetuning-replay/seed0/step1/train.json").read_text())
    plain = json.loads((micro.folder / RUN / "finetuning/seed0/step1/train.json").read_text())
    assert (record["exemplars"], plain["exemplars"]) == (6, 0)


def test_the_base_step_was_trained_once(micro: Checkout):
    assert len(list((micro.folder / "results/base").rglob("checkpoint.pt"))) == 2  # the base step and joint


def test_figures_and_galleries_are_drawn(micro: Checkout):
    (folder,) = (micro.folder / "results/figures").iterdir()
    names = {"curves", "trade_off", "forgetting", "classes", "losses", "memory"}
    assert {f.stem for f in folder.glob("*.svg")} == names <= {f.stem for f in folder.glob("*.png")}
    assert {f.stem for f in folder.glob("gallery_*.png")} == {
        f"gallery_{method}" for method in ("joint", "finetuning", "finetuning-replay", "mib", "lwf")
    }


def test_the_report_is_one_file_with_tables_and_pictures(micro: Checkout, tmp_path: Path):
    target = tmp_path / "report.html"
    done = micro.snakemake("--report", str(target))
    assert done.returncode == 0, done.stderr
    text = target.read_text()
    assert "summary.html" in text and "significance.html" in text and "gallery_mib.png" in text and "curves.svg" in text


def run_script(checkout: Checkout, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"workflow_scripts/{name}", *arguments]
    return subprocess.run(command, cwd=checkout.folder, capture_output=True, text=True, check=False)


def test_results_in_one_file_hold_tables_and_records_and_stand_for_the_folder(micro: Checkout, tmp_path: Path):
    first, again = tmp_path / "anna.zip", tmp_path / "again.zip"
    for archive in (first, again):
        done = run_script(micro, "export_results.py", "--configfile", MICRO, "--out", str(archive))
        assert done.returncode == 0, done.stderr
    assert first.read_bytes() == again.read_bytes()
    names = zipfile.ZipFile(first).namelist()
    assert {Path(name).suffix for name in names} == {".csv", ".json"}
    assert sum(name.endswith("train.json") for name in names) == 10
    assert str(micro.folder).encode() not in b"".join(map(zipfile.ZipFile(first).read, names))
    done = run_script(micro, "compare_results.py", "results", str(first), "--out", str(tmp_path / "both"))
    assert done.returncode == 0, done.stderr
    assert {"mib (anna)", "joint (anna)"} <= {row["method"] for row in rows(tmp_path / "both/tables/metrics.csv")}
    assert "distillation_weight" in (tmp_path / "both/origins.html").read_text()


def test_the_plan_tells_jobs_sharing_iterations_and_disk(micro: Checkout):
    done = run_script(micro, "show_plan.py", "--configfile", MICRO)
    assert done.returncode == 0, done.stderr
    assert "5 runs of 13 steps need 10 trainings: 3 are shared." in done.stdout
    assert "Training in all: 44 iterations; to be done: nothing." in done.stdout
    disk = float(re.search(r"about ([\d.]+) MB", done.stdout)[1])
    real = sum(f.stat().st_size for f in (micro.folder / "results").rglob("checkpoint.pt")) / 1e6
    assert disk == pytest.approx(real, rel=0.1)


def test_progress_counts_what_is_done_and_writes_nothing(micro: Checkout):
    before = {file: file.stat().st_mtime_ns for file in (micro.folder / "results").rglob("*")}
    done = run_script(micro, "show_progress.py", "--configfile", MICRO)
    assert done.returncode == 0, done.stderr
    assert "no workflow is running; the last one was process" in done.stdout
    assert re.search(r"^trainings +10 +0 +0 +0$", done.stdout, re.MULTILINE)
    assert re.search(r"^evaluations +10 +0 +0 +0$", done.stdout, re.MULTILINE)
    assert {file: file.stat().st_mtime_ns for file in (micro.folder / "results").rglob("*")} == before


def test_the_doctor_looks_at_everything_and_says_what_a_dataset_lacks(micro: Checkout, tmp_path: Path):
    content = yaml.safe_load((micro.folder / MICRO).read_text())
    content["datasets"]["photos"] = {"kind": "folder", "root": "$SEGUE_NOWHERE/photos"}
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(content))
    done = run_script(micro, "doctor.py", "--configfile", str(config))
    assert done.returncode == 0, done.stderr
    for what in ("Python", "torch", "compiler", "ops", "Snakemake", "SLURM", "detectron2", "disk"):
        assert re.search(rf"^(ok |!! ) {what}\b", done.stdout, re.MULTILINE), what
    assert re.search(r"^ok  dataset shapes-micro\s+8 classes, prepared", done.stdout, re.MULTILINE)
    assert re.search(r"^!!  dataset photos .*SEGUE_NOWHERE", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        (("experimants",), [], "unknown key 'experimants'; did you mean 'experiments'?"),
        (("experiments", 0, "methods"), ["mibb"], "experiments[0].methods[0]: unknown per-pixel method 'mibb'"),
        (("experiments", 0, "scenarios"), ["4-3"], "scenario '4-3' does not divide 8 classes"),
        (("datasets", "shapes-micro", "stuf"), 3, "'stuf'"),
    ],
    ids=lambda value: None,
)
def test_a_mistake_is_one_clear_message_before_anything_starts(tmp_path: Path, path, value, expected):
    checkout = fresh_checkout(tmp_path / "project")
    content = yaml.safe_load((checkout.folder / MICRO).read_text())
    at = content
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    (checkout.folder / "mistake.yaml").write_text(yaml.safe_dump(content))
    done = checkout.snakemake(config="mistake.yaml")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert expected in said
    assert "Traceback" not in said
    assert not (checkout.folder / "results/data").exists()


def test_costs_are_those_of_the_trainings(micro: Checkout):
    found = {row["method"]: row for row in rows(micro.folder / "results/tables/costs.csv")}
    assert set(found) == {r["method"] for r in rows(micro.folder / "results/tables/metrics.csv")}
    for method in ("mib", "finetuning-replay"):
        records = [
            json.loads((micro.folder / RUN / method / f"seed0/step{step}/train.json").read_text()) for step in (1, 2)
        ]
        assert int(found[method]["trainable_parameters"]) == records[-1]["trainable_parameters"]
        assert int(found[method]["iterations"]) == sum(record["iterations"] for record in records)
        assert float(found[method]["seconds"]) == pytest.approx(sum(record["seconds"] for record in records))
    assert int(found["mib"]["exemplars"]) == int(found["mib"]["exemplar_bytes"]) == 0
    data = micro.folder / "results/data/shapes-micro"
    memory = max((micro.folder / "results/memory/shapes-micro").rglob("step2.json"))
    images = [image["id"] for image in json.loads(memory.read_text())["images"]]
    files = {row["id"]: Path(row["file"]) for row in rows(data / "train.csv")}
    sizes = [(data / files[i]).stat().st_size + (data / f"semantic/train/{i}.png").stat().st_size for i in images]
    assert int(found["finetuning-replay"]["exemplars"]) == len(images) > 0
    assert int(found["finetuning-replay"]["exemplar_bytes"]) == sum(sizes)
    assert found["joint"]["seconds"] == "0.000000" and float(found["joint"]["base_seconds"]) > 0
