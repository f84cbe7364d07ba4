"""DFT and DFT*: what trains, classifiers for classes to come, and who is told about these."""

from __future__ import annotations

import json
from itertools import product

import pytest
import torch
from trainings import train

from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.networks.deeplabv3.outputs import PixelOutputs
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.spec import SpecError, parse_spec

BASE, FIRST, SECOND = Step(0, (), (11, 12), (1, 2)), Step(1, (11, 12), (13,)), Step(2, (11, 12, 13), (14, 15))


def network(classes=(2, 1, 2)) -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3(classes, backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8)


def test_after_the_base_step_only_new_and_future_classifiers_change(pixel_stream) -> None:
    net, method = network(), build("dft-star")
    for step, untouched in ((FIRST, ["cls.0."]), (SECOND, ["cls.0.", "cls.1."])):
        before = {key: value.clone() for key, value in net.state_dict().items()}
        method.grow(net, step)
        train(net, method, step, lambda start: pixel_stream(2, start=start), learning_rate=0.1, weight_decay=0.1)
        after = net.state_dict()
        assert after.keys() == before.keys()
        changed = {key for key, value in after.items() if not torch.equal(value, before[key])}
        left = [f"cls.{k}.{leaf}" for k in range(step.index, 3) for leaf in ("weight", "bias")]
        assert changed == set(left) and not any(key.startswith(tuple(untouched)) for key in changed)


def test_everything_trains_in_the_base_step_even_what_is_to_come(pixel_stream) -> None:
    net, method = network(), build("dft-star")
    assert len(method.trainable(net, BASE).groups[0].parameters) == len(list(net.parameters()))
    before = net.cls[2].weight.clone()
    train(net, method, BASE, lambda start: pixel_stream(3, start=start), learning_rate=0.1, weight_decay=0.1)
    assert not torch.equal(net.cls[2].weight, before)


@pytest.mark.parametrize(("features", "past"), list(product([False, True], repeat=2)))
def test_each_switch_by_itself(features: bool, past: bool) -> None:
    net = network((2, 1))
    method = build("dft", {"freeze_features": features, "freeze_past_classifiers": past})
    trainable = method.trainable(net, FIRST)
    freeze_untrained(net, trainable.groups)
    frozen = {
        name.split(".")[0] + "." * name.startswith("cls") for name, p in net.named_parameters() if not p.requires_grad
    }
    assert frozen == ({"backbone", "aspp"} if features else set()) | ({"cls."} if past else set())
    assert trainable.evaluation_modules == ((net.backbone, net.aspp) if features else ())


def test_dft_without_switches_is_fine_tuning(pixel_stream) -> None:
    nets = [network((2, 1)) for _ in range(2)]
    for net, name in zip(nets, ("dft", "finetuning"), strict=True):
        train(net, build(name), FIRST, lambda start: pixel_stream(2, start=start), learning_rate=0.1, weight_decay=0.1)
    states = [net.state_dict() for net in nets]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_growth_adds_a_classifier_only_where_there_is_none() -> None:
    net = network()
    build("dft-star").grow(net, FIRST)
    assert net.classes_per_step == [2, 1, 2]
    net = network((2,))
    build("dft-star", {"preallocate": False}).grow(net, FIRST)
    assert net.classes_per_step == [2, 1]


def test_a_class_that_nobody_has_learnt_is_never_answered() -> None:
    logits = torch.tensor([0.0, 1.0, 0.5, 9.0, 2.0, 3.0]).view(1, 6, 1, 1)
    outputs, method = PixelOutputs(logits, logits, logits), build("dft-star")
    assert [method.predict(outputs, step).item() for step in (BASE, FIRST, SECOND)] == [1, 3, 3]


def test_only_the_base_step_that_needs_it_is_told_about_future_classes(plan) -> None:
    found = plan(
        "finetuning", "dft", "dft-star", {"name": "dft-star", "label": "b", "hyper_parameters": {"preallocate": False}}
    )
    told = {t.directory: t.spec["step"]["future"] for t in found.trainings.values() if "future" in t.spec["step"]}
    runs = {run.method: run for run in found.runs}
    assert told == {runs["dft-star"].trainings[0].directory: (3, 3)}
    assert runs["dft"].trainings[0] is runs["finetuning"].trainings[0]
    assert len({runs[name].trainings[0].directory for name in ("dft", "dft-star", "b")}) == 3
    spec = parse_spec(json.dumps(runs["dft-star"].trainings[0].spec))
    assert spec.step.step.future == (3, 3)


def test_variants_of_freezing_share_the_base_step(plan) -> None:
    label = {"name": "dft-star", "label": "thawed", "hyper_parameters": {"freeze_features": False}}
    assert sum(t.shared for t in plan("dft-star", label).trainings.values()) == 1


def test_a_later_step_that_is_told_about_the_future_is_refused(plan) -> None:
    run = next(run for run in plan("dft-star").runs)
    spec = run.trainings[1].spec
    spec = {**spec, "step": {**spec["step"], "future": [3]}}
    with pytest.raises(SpecError, match="only the base step"):
        parse_spec(json.dumps(spec))
