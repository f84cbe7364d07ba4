"""What is started often loads no torch, which takes longer than all that it does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
WORKFLOW = [PROJECT / "Snakefile", *sorted((PROJECT / "rules").glob("*.smk"))]
SCRIPTS = (
    *("check_config", "draw_figures", "draw_gallery", "fetch_archive", "fetch_list", "index_classes", "keep_results"),
    *(
        "make_tables",
        "prepare_dataset",
        "select_memory",
        "show_plan",
        "show_progress",
        "show_results",
        "show_why",
        "split_steps",
    ),
)
HEAVY = ("torch", "torchvision")


def loaded(code):
    """Heavy packages that a new process has loaded after running some lines."""
    tail = f"import sys; print('loaded', *({{name.split('.')[0] for name in sys.modules}} & {set(HEAVY)!r}))"
    done = subprocess.run([sys.executable, "-c", f"{code}\n{tail}"], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split()) - {"loaded"}


def test_the_rules_load_no_torch():
    pattern = re.compile(r"^(?:from|import) model[^\n(]*(?:\([^)]*\))?", re.MULTILINE)
    imports = [found for file in WORKFLOW for found in pattern.findall(file.read_text(encoding="utf-8"))]
    assert len(imports) > 10
    assert loaded("\n".join(imports)) == set()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_needs_no_network_loads_no_torch(script):
    assert loaded(f"import sys; sys.path.insert(0, 'workflow_scripts'); import {script}") == set()


def test_planning_again_loads_no_torch():
    plan = (
        "from pathlib import Path\nfrom model.config.reading import load_config\nfrom model.workflow.plan import Plan\n"
        "from model.workflow.plan_jobs import plan_jobs\n"
        "plan = Plan(load_config(Path('config/micro.yaml')))\nplan_jobs(plan, Path(plan.config.results))"
    )
    loaded(plan)
    assert loaded(plan) == set()
