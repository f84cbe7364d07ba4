"""Names and input functions; what depends on what is decided in model/plan.py."""

import os
import sys
from functools import cache
from pathlib import Path

from snakemake.exceptions import WorkflowError

sys.path.insert(0, str(workflow.basedir))

from model.config import ConfigError, parse_config
from model.plan import Plan
from model.provenance import canonical_json, code_fingerprint

PROJECT = Path(str(workflow.basedir))
SCRIPTS = PROJECT / "workflow_scripts"

try:
    PLAN = Plan(
        parse_config(
            config,
            source=", ".join(map(str, workflow.configfiles)) or "configuration",
            recipes=PROJECT / "config" / "recipes",
        )
    )
except ConfigError as error:
    raise WorkflowError(str(error)) from None

# Jobs run this checkout's code, wherever the environment has another one installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
RESULTS = Path(PLAN.config.results)
PYTHON = sys.executable


wildcard_constraints:
    dataset="|".join(PLAN.datasets),
    seed=r"\d+",
    step=r"\d+",
    reading="[^/]+",


def one_of(names):
    """A constraint that admits exactly these names, or nothing at all."""
    return "|".join(sorted(names)) or "(?!)"


@cache
def fingerprint(*entries):
    """Code that a job runs through: scripts by file name, modules by dotted name."""
    return code_fingerprint([SCRIPTS / e if e.endswith(".py") else e for e in entries], PROJECT)


def prepared(dataset):
    return RESULTS / "data" / dataset / "dataset.json"


def gpus_per_training():
    """One where there is a GPU to be had, none on a machine without: resources never invalidate a result."""
    import torch

    return int(torch.cuda.is_available())


GPUS_PER_TRAINING = gpus_per_training()
