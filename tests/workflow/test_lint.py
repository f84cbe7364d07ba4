"""Snakemake's own linter, with every exception explained."""

import re

import pytest
from checkout import Checkout

pytestmark = pytest.mark.xdist_group("micro")

EXPLAINED = {
    # One environment for the whole workflow (envs/): per-rule environments would each build the ops again.
    "Specify a conda environment or container for each rule.",
    # Where the interpreter and the checkout lie belongs to the machine. As parameters they would re-run everything after a move.
    "Shell command directly uses variable PYTHON from outside of the rule",
    "Shell command directly uses variable SCRIPTS from outside of the rule",
}


def test_the_linter_complains_about_nothing_else(micro: Checkout):
    done = micro.snakemake("--lint")
    complaints = set(re.findall(r"^    \* (.*?):$", done.stdout + done.stderr, re.MULTILINE))
    assert complaints == EXPLAINED
