"""The registry of methods: names, nearest names, hyper-parameters."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import torch
import yaml
from contexts import step_context

from model.config.messages import ConfigError
from model.config.reading import parse_config
from model.methods import registry
from model.methods.base import Method
from model.methods.registry import MethodError, build, known, module_of, resolve
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import SETTINGS, Step
from model.workflow.jobs import training_code
from model.workflow.plan import Plan

ROWS = [(family, name) for family in registry.METHODS for name in known(family)]


@pytest.mark.parametrize(("family", "name"), ROWS)
def test_every_row_is_a_complete_method(family: registry.Family, name: str) -> None:
    cls = resolve(name, family)
    assert issubclass(cls, Method) and is_dataclass(cls)
    assert cls.__module__ == module_of(name, family)
    method = build(name, family=family)
    assert method.family == family
    with pytest.raises(FrozenInstanceError):
        method.anything = 1  # type: ignore[attr-defined]
    hints = get_type_hints(Method)
    for attribute in ("family", "memory_policy", "replay_mixing"):
        (literal,) = get_args(hints[attribute])
        assert getattr(method, attribute) in get_args(literal)
    assert set(method.tasks) <= {"panoptic", "semantic", "instance"} and method.tasks
    assert method.base_method is None or method.base_method in known(family)
    assert all(setting in SETTINGS and task in method.tasks for setting, task in method.unsupported)


@pytest.mark.parametrize(("family", "name"), ROWS)
def test_stages_cover_every_hyper_parameter_once(family: registry.Family, name: str) -> None:
    cls = resolve(name, family)
    train, predict = cls.hyper_parameters("train"), cls.hyper_parameters("predict")
    assert sorted(train + predict) == sorted(field.name for field in fields(cls))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", known())
def test_a_module_documents_its_method(name: str) -> None:
    cls = resolve(name)
    documentation = sys.modules[cls.__module__].__doc__ or ""
    if "losses" in vars(cls):
        assert "L = " in documentation, "the formula"
    assert "Verified against:" in documentation


def test_the_table_imports_nothing() -> None:
    script = (
        "import sys; from model.methods import registry; registry.known(); registry.module_of('mib');"
        "print([m for m in sys.modules if m.startswith(('model.networks.', 'model.losses', 'model.methods.pixel.mib'))])"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mbi", "unknown per-pixel method 'mbi'; did you mean 'mib'?"),
        ("MiB", "unknown per-pixel method 'MiB'; did you mean 'mib'?"),
        ("lwfmc", "did you mean 'lwf-mc'?"),
        ("xyzzy", "known: .*finetuning.*mib"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(MethodError, match=message):
        resolve(name)


def test_hyper_parameters_replace_defaults() -> None:
    assert build("mib").distillation_weight == 10  # type: ignore[attr-defined]
    method = build("mib", {"distillation_weight": 3, "background_initialisation": False})
    assert method == resolve("mib")(distillation_weight=3.0, background_initialisation=False)
    assert type(method.distillation_weight) is float  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distilation_weight": 1}, "no hyper-parameter 'distilation_weight'; did you mean 'distillation_weight'?"),
        ({"distillation_weight": "10"}, "is '10': input should be a valid number"),
        ({"distillation_weight": True}, "is True: input should be a valid number"),
        ({"distillation_weight": -1}, "is -1: input should be greater than or equal to 0"),
        ({"distillation_weight": float("nan")}, "expected a finite, plain value"),
        ({"distillation_weight": float("inf")}, "expected a finite, plain value"),
        ({"distillation_weight": object()}, "expected a finite, plain value"),
        ({"background_initialisation": 1}, "is 1: input should be a valid boolean"),
    ],
)
def test_wrong_hyper_parameters(values, message) -> None:
    with pytest.raises(MethodError, match=message):
        build("mib", values)


def test_a_method_without_hyper_parameters_says_so() -> None:
    with pytest.raises(MethodError, match="method 'finetuning' has no hyper-parameter 'x'; known: none"):
        build("finetuning", {"x": 1})


def test_a_row_of_a_users_own_module_is_enough(monkeypatch, tmp_path) -> None:
    (tmp_path / "my_method.py").write_text(
        "from dataclasses import dataclass\nfrom model.methods.pixel.base import PixelMethod\n"
        "@dataclass(frozen=True)\nclass Mine(PixelMethod):\n    rates: tuple[int, ...] = (1,)\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.METHODS["per-pixel"], "mine", "my_method:Mine")
    assert build("mine", {"rates": [2, 3]}).rates == (2, 3)  # type: ignore[attr-defined]


OWN = """
from dataclasses import dataclass
from model.methods.pixel.base import PixelMethod

@dataclass(frozen=True)
class Mine(PixelMethod):
    rates: tuple[int, ...] = (1,)
"""


def test_a_method_from_outside_needs_a_label_and_its_code_counts(monkeypatch, tmp_path) -> None:
    (tmp_path / "my_own_method.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    entry = {"name": "my_own_method:Mine", "label": "mine", "hyper_parameters": {"rates": [2, 3]}}
    experiment = {"dataset": "shapes", "scenarios": ["6-2"], "recipe": "deeplabv3-tiny-shapes", "methods": [entry]}
    config = {"schema_version": 1, "datasets": {"shapes": {"kind": "shapes"}}, "experiments": [experiment]}
    (run,) = Plan(parse_config(config)).runs
    later = run.trainings[1]
    assert run.method == "mine" and later.spec["method"]["name"] == "my_own_method:Mine"
    assert "my_own_method" in training_code(later.spec)
    for changed, message in (
        ({"label": None}, r"give 'my_own_method:Mine' a 'label'"),
        ({"name": "os:system"}, "'os:system' is not a method"),
        ({"name": "my_own_metod:Mine"}, "cannot be imported: No module named 'my_own_metod'"),
        ({"hyper_parameters": {"rate": 1}}, "has no hyper-parameter 'rate'; did you mean 'rates'?"),
    ):
        experiment["methods"] = [{**entry, **changed}]
        with pytest.raises(ConfigError, match=message):
            Plan(parse_config(config))


def test_the_example_of_the_documentation_works(monkeypatch, tmp_path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "add-a-method.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (source,) = [block for block in blocks if "@dataclass" in block]
    (row,) = [block for block in blocks if "model.methods." in block and "@dataclass" not in block]
    name, target = re.findall(r'"([^"]+)"', row)
    module, _, cls = target.rpartition(":")
    (tmp_path / "documented_method.py").write_text(source, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(registry.METHODS["per-pixel"], name, f"documented_method:{cls}")
    method = build(name, {"distillation_weight": 30})
    assert module == f"model.methods.pixel.{name.replace('-', '_')}"
    assert method.memory_policy == "annotations" and method.needs_old_model
    logits, old_logits = torch.randn(1, 5, 4, 4), torch.randn(1, 3, 4, 4)
    outputs, old_outputs = (PixelOutputs(z, z, z) for z in (logits, old_logits))
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    context = step_context(Step(1, (1,), (2,)))
    documented = method.losses(context, None, outputs, old_outputs, labels)
    expected = build("lwf", {"distillation_weight": 30}).losses(context, None, outputs, old_outputs, labels)
    assert documented == expected

    (experiment,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = {"schema_version": 1, "datasets": {"shapes": {"kind": "shapes"}}, **yaml.safe_load(experiment)}
    plan = Plan(parse_config(config, recipes=Path(__file__).parents[3] / "config" / "recipes"))
    (run,) = [run for run in plan.runs if run.method == name]
    assert all(training.memory is not None for training in run.trainings[1:])
    assert run.trainings[1].spec["method"] == {"name": name, "hyper_parameters": {"distillation_weight": 30.0}}
