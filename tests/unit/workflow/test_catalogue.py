"""Facts about methods and networks that planning keeps."""

import subprocess
import sys
from pathlib import Path

import pytest

from model.config.recipes import Recipes
from model.methods import registry as methods
from model.methods.registry import METHODS
from model.networks import registry as networks
from model.scenario import Scenario
from model.training.spec import RecipeSpec
from model.workflow import catalogue
from model.workflow.catalogue import DECISION_HOOKS, check_method, check_recipe, method_facts, network_values

PROJECT = Path(__file__).resolve().parents[3]
EVERY = [(name, family) for family, rows in METHODS.items() for name in rows]
SCENARIO = Scenario("2-1", ((1, 2), (3,)))


@pytest.fixture(autouse=True)
def kept(tmp_path, monkeypatch):
    monkeypatch.setattr(catalogue, "KEPT", tmp_path)
    return tmp_path / "planning"


def recipe(name):
    return RecipeSpec.model_validate(Recipes().load(name).resolved(step=1, classes=1))


@pytest.mark.parametrize("name, family", EVERY)
def test_facts_are_those_of_the_method_itself(name, family):
    facts = [method_facts(name, {}, family) for _ in range(2)]  # found, then kept
    method = methods.build(name, {}, family)
    assert facts[0] == facts[1]
    assert facts[0].all_at_once == method.all_at_once and facts[0].memory_policy == method.memory_policy
    assert (facts[0].base_method, facts[0].needs_future) == (method.base_method, method.needs_future)
    stages = (*facts[0].train, *facts[0].predict)
    assert sorted(stages) == sorted(method.hyper_parameters("train") + method.hyper_parameters("predict"))


def test_methods_decide_alike_exactly_if_they_share_the_functions():
    decisions = {name: method_facts(name, {}, "mask").decision for name in METHODS["mask"]}
    classes = {name: methods.resolve(name, "mask") for name in METHODS["mask"]}
    for one, first in classes.items():
        for other, second in classes.items():
            same = all(getattr(first, hook, None) is getattr(second, hook, None) for hook in DECISION_HOOKS)
            assert (decisions[one] == decisions[other]) == same


def test_nothing_is_asked_twice(kept, monkeypatch):
    arguments = {"name": "deeplabv3", "backbone": "tiny"}
    small = recipe("deeplabv3-micro")

    def ask():
        check_recipe("per-pixel", arguments, {"name": "full-image"})
        check_method("mib", {}, "per-pixel", small, SCENARIO, "overlapped", "semantic")
        return method_facts("mib", {}, "per-pixel"), network_values("deeplabv3", {"backbone": "tiny"}, 3)

    first = ask()
    monkeypatch.setattr(methods, "build", None)
    monkeypatch.setattr(networks, "build", None)
    monkeypatch.setattr(networks, "check_arguments", None)
    assert ask() == first and first[1] > 0
    assert len(list(kept.iterdir())) == 4


def test_changed_code_is_asked_again(monkeypatch):
    monkeypatch.setattr(catalogue, "_basis", lambda *modules: ["before"])
    before = method_facts("mib", {}, "per-pixel")
    monkeypatch.setattr(type(methods.build("mib")), "needs_future", property(lambda self: True))
    assert method_facts("mib", {}, "per-pixel") == before
    monkeypatch.setattr(catalogue, "_basis", lambda *modules: ["after"])
    assert method_facts("mib", {}, "per-pixel").needs_future


def test_refusals_are_not_kept(kept):
    for _ in range(2):
        with pytest.raises(ValueError, match="distillation_weigth"):
            method_facts("mib", {"distillation_weigth": 1.0}, "per-pixel")
        with pytest.raises(ValueError, match="not panoptic"):
            check_method("mib", {}, "per-pixel", recipe("deeplabv3-micro"), SCENARIO, "overlapped", "panoptic")
        with pytest.raises(ValueError, match="no_such"):
            check_recipe("per-pixel", {"name": "deeplabv3", "no_such": 1}, {"name": "full-image"})
    assert not kept.exists()


def test_a_network_has_as_many_values_as_its_state():
    built = networks.build("deeplabv3", [3], {"backbone": "tiny"})
    values = sum(tensor.numel() for tensor in built.state_dict().values())
    assert network_values("deeplabv3", {"backbone": "tiny"}, 3) == values


@pytest.mark.parametrize("name", ["deeplabv3", "mask2former"])
def test_values_of_a_network_are_counted_without_the_compiler(name):
    arguments = {"backbone": "tiny"}
    built = sum(tensor.numel() for tensor in networks.build(name, [3], arguments).state_dict().values())
    code = (
        "import sys\nfrom model.workflow import catalogue\ncatalogue.kept_answer = lambda folder, question, find: find()\n"
        f"print(catalogue.network_values({name!r}, {arguments!r}, 3), 'torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(built), "False"]
