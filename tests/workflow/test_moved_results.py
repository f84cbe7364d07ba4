"""Results that were copied, moved or shared are judged by their records and their content, not by what Snakemake remembers.

Every case takes results of the micro configuration to another place and asks for the plan there; few run anything.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from checkout import MICRO, Checkout, fresh_checkout
from project_changes import (
    EVALUATION,
    EVERYTHING,
    TRAINING,
    Expected,
    check,
    configure,
    edit,
    entry,
    expect,
    of_results,
    short,
    steps,
)

from model.common.fingerprints import canonical_json
from model.common.json_files import CHECKSUM, write_checked
from model.config.reading import load_config

pytestmark = pytest.mark.xdist_group("micro")

MIB = "runs/shapes-micro/semantic_4-2_overlapped/deeplabv3-micro/mib/seed0"


def other_weight(folder: Path) -> None:
    configure(folder, lambda c: entry(c, "mib").update(hyper_parameters={"distillation_weight": 999}))


def other_scenes(folder: Path) -> None:
    configure(folder, lambda c: c["datasets"]["shapes-micro"].update(seed=7))


def larger_memory(folder: Path) -> None:
    configure(folder, lambda c: c["experiments"][0]["memory"].update(size=8))


def training_loop(folder: Path) -> None:
    edit(folder, "model/training/loop.py", r"\Z", "\nDEFAULT = 1\n")


CHANGES: dict[Callable[[Path], None], tuple[Expected, str]] = {
    other_weight: (expect(*steps("mib")), "made with distillation_weight 10, the configuration says 999"),
    other_scenes: (expect(*EVERYTHING), "made with options.seed nothing, the configuration says 7"),
    larger_memory: (expect(*steps("finetuning-replay")), "class-proportional-8"),
    training_loop: (expect(*EVERYTHING), "model.training.loop has changed"),
}


def copied_without_times(results: Path, target: Path) -> None:
    """As ``cp -r``: the files are as new as their copying, in whatever order that was."""
    shutil.copytree(results, target, copy_function=shutil.copyfile)


def copied_with_times(results: Path, target: Path) -> None:
    """As ``cp -a``."""
    shutil.copytree(results, target, copy_function=shutil.copy2, symlinks=True)


@pytest.fixture
def elsewhere(micro: Checkout, tmp_path: Path) -> Checkout:
    """Another checkout, without results and without anything of Snakemake's."""
    return fresh_checkout(tmp_path / "elsewhere")


def taken_along(micro: Checkout, checkout: Checkout, copy: Callable[[Path, Path], None]) -> None:
    """Results in another checkout, in the place of those that it has."""
    shutil.rmtree(checkout.folder / "results")  # holds a README only
    copy(micro.folder / "results", checkout.folder / "results")


def run_script(checkout: Checkout, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script of the checkout; the caller looks at the return code."""
    command = [sys.executable, f"workflow_scripts/{name}", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(checkout.folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False)


def script(checkout: Checkout, name: str, *arguments: str) -> str:
    """What a script of the checkout prints."""
    done = run_script(checkout, name, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def table(checkout: Checkout) -> bytes:
    return (checkout.folder / "results/tables/metrics.csv").read_bytes()


@pytest.mark.parametrize("copy", [copied_without_times, copied_with_times], ids=lambda copy: copy.__name__)
def test_a_copy_runs_nothing(micro: Checkout, elsewhere: Checkout, copy: Callable[[Path, Path], None]):
    taken_along(micro, elsewhere, copy)
    assert elsewhere.planned() == set()


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_copy_under_another_configuration_runs_what_that_concerns(
    micro: Checkout, elsewhere: Checkout, change: Callable[[Path], None]
):
    taken_along(micro, elsewhere, copied_with_times)
    change(elsewhere.folder)
    expected, reason = CHANGES[change]
    done = elsewhere.snakemake("--dry-run")
    assert reason in done.stderr and "make keep" in done.stderr
    planned = elsewhere.planned()
    assert of_results(planned) == expected
    assert {"tables", "figures", "gallery"} <= {job.rule for job in planned}


@pytest.mark.parametrize("change", [other_weight, training_loop], ids=lambda change: change.__name__)
def test_snakemake_is_not_believed_when_it_remembers_that_all_is_well(
    micro: Checkout, tmp_path: Path, change: Callable[[Path], None]
):
    checkout = micro.copy(tmp_path / "project")
    change(checkout.folder)
    # As if another folder with this configuration had run here: every output is recorded with the present parameters.
    assert checkout.snakemake("--touch").returncode == 0
    for arguments in ([], ["--rerun-triggers", "mtime"]):
        assert of_results(checkout.planned(*arguments)) == CHANGES[change][0]


def test_results_that_were_moved_are_known_where_the_configuration_says_they_are(micro: Checkout, tmp_path: Path):
    checkout = micro.copy(tmp_path / "project")
    (checkout.folder / "results").rename(tmp_path / "archive")
    configure(checkout.folder, lambda c: c.update(results=str(tmp_path / "archive")))
    assert checkout.planned() == set()
    other_weight(checkout.folder)
    done = checkout.snakemake("--dry-run")
    assert "made with distillation_weight 10, the configuration says 999" in done.stderr
    assert {f"{MIB}/step{step}" in done.stderr for step in (1, 2)} == {True}


def test_two_checkouts_on_one_folder_see_what_the_other_made(micro: Checkout, elsewhere: Checkout, tmp_path: Path):
    one = micro.copy(tmp_path / "one")
    shared = tmp_path / "shared"
    (one.folder / "results").rename(shared)
    for checkout in (one, elsewhere):
        configure(checkout.folder, lambda c: c.update(results=str(shared)))
    configure(elsewhere.folder, lambda c: entry(c, "mib").update(steps={2: {"distillation_weight": 3.0}}))
    assert one.planned() == set()
    done = elsewhere.snakemake("--", "tables")
    assert done.returncode == 0, done.stderr
    # The second configuration has tables of its own; the first finds its own training replaced.
    assert "are now in" in done.stderr
    planned = one.snakemake("--dry-run")
    assert "made with distillation_weight 3, the configuration says 10" in planned.stderr
    trained = {job.output for job in one.planned() if job.rule in TRAINING}
    assert trained == {str(shared / MIB / "step2/checkpoint.pt")}
    done = one.snakemake("--", "tables")
    assert done.returncode == 0, done.stderr
    assert (shared / "tables/metrics.csv").read_bytes() == table(micro)
    assert [file.parts[-3] for file in shared.glob("other_configurations/*/tables/metrics.csv")] != []


def test_plan_why_and_dry_run_agree(micro: Checkout, tmp_path: Path):
    checkout = micro.copy(tmp_path / "project")
    larger_memory(checkout.folder)
    edit(checkout.folder, "model/methods/pixel/lwf.py", r"\Z", "\nDEFAULT = 1\n")
    (checkout.folder / f"results/{MIB}/step2/checkpoint.pt").unlink()
    (checkout.folder / f"results/{MIB}/step2/evaluation/segue/counts.npz").unlink()
    planned = checkout.planned()
    check(
        {job for job in planned if job.rule != "select_memory"}, expect(*steps("finetuning-replay", "lwf"), "mib/step2")
    )
    why = script(checkout, "show_why.py", "--configfile", MICRO)
    told = set(re.findall(r"^  (\S+?)(?: \(.*?\))?: ", why, re.MULTILINE))
    assert len(told) == len(planned)
    assert all(any(job.output.startswith(name) for name in told) for job in planned)
    assert "model.methods.pixel.lwf has changed" in why
    states = dict(
        re.findall(
            r"^(\S+/\S+).*\b(present|stale|missing)(?:: .*)?$",
            script(checkout, "show_plan.py", "--configfile", MICRO),
            re.M,
        )
    )
    of_trainings = {name for name, state in states.items() if state != "present"}
    assert of_trainings == {job.output.removesuffix("/checkpoint.pt") for job in planned if job.rule in TRAINING}


def test_what_is_kept_runs_nothing_again_and_is_marked_in_the_tables(micro: Checkout, tmp_path: Path):
    checkout = micro.copy(tmp_path / "project")
    before = table(checkout)
    training_loop(checkout.folder)
    other_weight(checkout.folder)
    said = script(checkout, "keep_results.py", "mib", "--configfile", MICRO, "--reason", "a comment in disguise")
    assert f"kept: {MIB}/step2" in said
    # What the method continues from is kept with it; other methods were not named.
    planned = {short(job) for job in checkout.planned() if job.rule in TRAINING}
    assert planned == {"joint", *steps("finetuning", "finetuning-replay", "lwf")}
    script(checkout, "keep_results.py", "--configfile", MICRO)
    assert not {job.rule for job in checkout.planned()} & (TRAINING | EVALUATION)
    done = checkout.snakemake("--", "tables")
    assert done.returncode == 0, done.stderr
    assert table(checkout) == before
    summary = (checkout.folder / "results/tables/summary.md").read_text()
    mib = next(line for line in summary.splitlines() if line.startswith("| mib"))  # costs stand below the values
    assert mib.count("†") == 4  # old, new, all and the mean over steps
    assert r"made with distillation\_weight 10, the configuration says 999" in summary.split("†")[-1]
    with (checkout.folder / "results/tables/costs.csv").open(newline="") as file:
        assert {row["kept"] for row in csv.DictReader(file)} == {"1"}
    record = json.loads((checkout.folder / f"results/{MIB}/step1/train.json").read_text())
    assert record["kept"][0]["reason"] == "a comment in disguise"
    assert record["spec"]["method"]["hyper_parameters"]["distillation_weight"] == 10
    assert checkout.planned("--", "tables") == set()


def test_a_table_refuses_a_row_of_another_configuration(micro: Checkout, tmp_path: Path):
    """Whatever let a result through: the script that makes tables compares again."""
    checkout = micro.copy(tmp_path / "project")
    record = checkout.folder / f"results/{MIB}/step2/train.json"
    content = json.loads(record.read_text())
    content["spec"]["method"]["hyper_parameters"]["distillation_weight"] = 5.0
    write_checked(record, {key: value for key, value in content.items() if key != CHECKSUM})
    config = canonical_json(load_config(checkout.folder / MICRO).model_dump(exclude_defaults=True))
    published = ("--published", "config/published_results.csv", "--folder", str(tmp_path / "tables"))
    done = run_script(checkout, "make_tables.py", "--config", config, "--results", "results", *published)
    assert done.returncode == 1
    assert re.search(rf"error: .*{MIB}/step2: made with distillation_weight 5, the configuration says 10", done.stderr)
    assert not (tmp_path / "tables").exists()


def test_another_configuration_in_the_folder_has_tables_of_its_own(micro: Checkout, tmp_path: Path):
    checkout = micro.copy(tmp_path / "project")
    (checkout.folder / "second.yaml").write_text((checkout.folder / MICRO).read_text())
    configure(checkout.folder, lambda c: c["experiments"][0].update(methods=["mib", "lwf"]), "second.yaml")
    done = checkout.snakemake("--", "tables", config="second.yaml")
    assert done.returncode == 0, done.stderr
    (aside,) = (checkout.folder / "results/other_configurations").iterdir()
    assert (aside / "tables/metrics.csv").read_bytes() == table(micro) != table(checkout)
    assert list((aside / "figures").rglob("gallery_finetuning.png"))
    assert str(aside.relative_to(checkout.folder)) in done.stderr
    assert {"tables", "significance", "figures", "gallery"} == {job.rule for job in checkout.planned()}
    done = checkout.snakemake("--", "tables")
    assert done.returncode == 0, done.stderr
    assert table(checkout) == table(micro)
    assert list((checkout.folder / "results/figures").rglob("gallery_finetuning.png")), "its own figures are back"
