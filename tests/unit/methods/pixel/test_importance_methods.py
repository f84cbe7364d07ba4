"""EWC, PI and RW: what is measured, what is held, and that the observed base step is fine-tuning's."""

from __future__ import annotations

import pytest
import torch
from contexts import step_context
from trainings import train

from model.losses.importance import normalised_range, path_importance, running_fisher
from model.methods.pixel.importance import ImportanceError
from model.methods.registry import build, resolve
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step
from model.training.checkpoint import refuse_unsafe

NAMES = ("ewc", "pi", "rw")
BASE, INCREMENT = Step(0, (), (11, 12)), Step(1, (11, 12), (13,))
CPU = torch.device("cpu")


@pytest.fixture
def base_network() -> DeepLabV3:
    torch.manual_seed(0)
    return DeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3))


@pytest.fixture
def stream(pixel_stream):
    return lambda start: pixel_stream(3, start=start)


def test_observing_changes_nothing(base_network, stream) -> None:
    copies = []
    for name in ("finetuning", "finetuning-observed"):
        torch.manual_seed(0)
        network = DeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3))
        train(network, build(name), BASE, stream)
        copies.append(network.state_dict())
    assert all(torch.equal(value, copies[1][key]) for key, value in copies[0].items())
    assert not torch.equal(copies[0]["cls.0.weight"], base_network.state_dict()["cls.0.weight"])


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_increment_hands_on_its_own_statistics(name, base_network, stream) -> None:
    state = train(base_network, build("finetuning-observed"), BASE, stream).state
    base_network.grow(1)
    found = train(base_network, build(name), INCREMENT, stream, state=state).state
    refuse_unsafe(found, "state")
    statistics = {"ewc": {"fisher"}, "pi": {"path"}, "rw": {"fisher", "walk"}}[name]
    assert found.keys() == {f"{s}/{key}" for s in statistics for key, _ in base_network.named_parameters()}


@pytest.mark.parametrize("name", NAMES)
def test_old_parameters_are_pulled_back_and_new_ones_are_free(name, base_network, stream) -> None:
    state = train(base_network, build("finetuning-observed"), BASE, stream).state
    old = {key for key, _ in base_network.named_parameters()}
    base_network.grow(1)
    method = build(name, {"importance_weight": 7.0})
    state = method.before_step(step_context(INCREMENT, base_network, old_model=None, batches=[], state=state))
    shift, gradients = 0.25, {}
    with torch.no_grad():
        for key, parameter in base_network.named_parameters():
            parameter += shift
            gradients[key] = torch.randn_like(parameter)
            parameter.grad = gradients[key].clone()
    method.after_backward(step_context(INCREMENT, base_network, state=state))
    pulled = 0
    for key, parameter in base_network.named_parameters():
        added = parameter.grad - gradients[key]
        if key in old:
            torch.testing.assert_close(added, 2 * 7.0 * shift * state[f"penalised/{key}"])
            pulled += int((added > 0).sum())
        else:
            assert (added == 0).all()
    assert pulled > 0


@pytest.mark.parametrize("name", NAMES)
def test_without_statistics_a_step_is_refused(name, base_network) -> None:
    with pytest.raises(ImportanceError, match=r"has no (fisher|path).*finetuning-observed"):
        build(name).before_step(step_context(INCREMENT, base_network, old_model=None, batches=[], state={}))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_handed_on_stays_as_it_is(name, base_network, stream) -> None:
    state = train(base_network, build("finetuning-observed"), BASE, stream).state
    kept = {key: value.clone() for key, value in state.items()}
    train(base_network, build(name), INCREMENT, stream, state=state)
    assert all(torch.equal(value, kept[key]) for key, value in state.items())


def test_the_newest_gradient_has_the_weight() -> None:
    assert running_fisher(torch.tensor(1.0), torch.tensor(2.0), 0.9) == pytest.approx(3.7)


def test_a_path_that_raised_the_loss_is_unimportant() -> None:
    assert path_importance(torch.tensor(-1.0), torch.tensor(0.0), torch.tensor(1.0)) == 0


def test_a_constant_tensor_has_no_range() -> None:
    assert (normalised_range(torch.full((3,), 7.0)) == 0).all()


def test_asking_for_them_later_leaves_what_there_is(plan) -> None:
    """One more base training for all three; every training that there was is the same job as before."""
    before, one, all_three = (
        plan("finetuning", "mib"),
        plan("finetuning", "mib", "ewc"),
        plan("finetuning", "mib", *NAMES),
    )
    for fewer, more in ((before, one), (one, all_three)):
        assert all(more.trainings[key].spec == training.spec for key, training in fewer.trainings.items())
    bases = [sum(key.startswith("base/") for key in found.trainings) for found in (before, one, all_three)]
    assert bases == [1, 2, 2]


def test_the_base_step_measures_with_the_configured_settings(plan) -> None:
    found = plan({"name": "ewc", "hyper_parameters": {"newest_weight": 0.5, "importance_weight": 3.0}})
    (base,) = [t for t in found.trainings.values() if t.shared]
    assert base.spec["method"] == {
        "name": "finetuning-observed",
        "hyper_parameters": {"newest_weight": 0.5, "interval": 10},
    }


@pytest.mark.parametrize("name", NAMES)
def test_fields_of_the_base_step_exist_there(name) -> None:
    method = resolve(name)
    base = resolve(str(method.base_method))
    assert set(method.base_fields or ()) <= set(base.hyper_parameters("train")) & set(method.hyper_parameters("train"))
    assert all(
        getattr(build(name), field) == getattr(build(str(method.base_method)), field)
        for field in method.base_fields or ()
    )
