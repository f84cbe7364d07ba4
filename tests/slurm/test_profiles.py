"""What the profiles ask of a cluster, without one."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml
from checkout import MICRO, PROJECT, Checkout, fresh_checkout

pytestmark = pytest.mark.xdist_group("slurm")
SENT = {"prepare_dataset", "class_index", "train_base", "train_step", "evaluate_step"}
"""Rules whose jobs go into the queue."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return fresh_checkout(tmp_path_factory.mktemp("profiles"))


def asked(checkout: Checkout, profile: str) -> dict[str, dict[str, str]]:
    """Rule to the resources of its first job, as a dry run shows them."""
    command = [sys.executable, "-m", "snakemake", "--workflow-profile", f"profiles/{profile}", "--configfile", MICRO]
    done = subprocess.run([*command, "--dry-run"], cwd=checkout.folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs: dict[str, dict[str, str]] = {}
    for rule, body in re.findall(r"^rule (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE):
        resources = re.search(r"^    resources: (.+)$", body, re.MULTILINE)
        pairs = (pair.split("=", 1) for pair in resources[1].split(", ")) if resources else ()
        jobs.setdefault(rule, dict(pairs))
    return jobs


def test_a_cluster_gets_requests_that_fit_each_kind_of_job(checkout: Checkout):
    jobs = asked(checkout, "slurm")
    assert set(jobs) >= SENT  # the rest runs where Snakemake does
    for rule in ("train_base", "train_step"):
        expected = {"gpu": "1", "slurm_partition": "gpu", "runtime": "1440", "slurm_extra": "--signal=TERM@120"}
        assert expected.items() <= jobs[rule].items(), jobs[rule]
    assert jobs["evaluate_step"]["gpu"] == "1"
    assert "gpu" not in jobs["prepare_dataset"] and jobs["prepare_dataset"]["slurm_partition"] == "cpu"
    assert all(
        {"mem_mb", "runtime", "slurm_account", "slurm_partition"} <= set(job) for job in (jobs[rule] for rule in SENT)
    )


def test_the_ci_profile_shares_the_ways_of_the_real_one():
    """What it proves of the one must hold for the other."""
    real, small = (
        yaml.safe_load((PROJECT / "profiles" / name / "profile.yaml").read_text()) for name in ("slurm", "slurm-ci")
    )
    alike = ("executor", "rerun-incomplete", "keep-going", "slurm-requeue", "slurm-logdir", "max-checksum-file-size")
    assert {key: real[key] for key in alike} == {key: small[key] for key in alike}
    assert all(profile["retries"] > 0 for profile in (real, small))
    for profile in (real, small):
        sets = [profile["default-resources"], *profile["set-resources"].values()]
        assert all("attempt" in str(entry[key]) for entry in sets for key in ("runtime", "mem_mb"))
        assert "resources" not in profile  # a limit of GPUs here would let only so many jobs into the queue
