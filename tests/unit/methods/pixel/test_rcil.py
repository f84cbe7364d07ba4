"""RCIL: what a step starts from, what is frozen, and what is compared."""

from __future__ import annotations

import pytest
import torch
from contexts import step_context
from torch import nn

from model.config.messages import ConfigError
from model.losses.pooled_cube import channel_cube_distance, energy_difference, spatial_cube_distance
from model.losses.pooled_distillation import fold_new_channels
from model.methods.registry import build
from model.networks.deeplabv3.outputs import PixelOutputs
from model.networks.deeplabv3.rcil_network import RcilDeepLabV3
from model.scenario import Step
from model.training.optimiser import freeze_untrained
from model.training.step import frozen_copy

BASE, FIRST, SECOND = Step(0, (), (11, 12)), Step(1, (11, 12), (13,)), Step(2, (11, 12, 13), (14, 15))


@pytest.fixture
def network() -> RcilDeepLabV3:
    torch.manual_seed(0)
    net = RcilDeepLabV3((2,), backbone="tiny", channels=8, rates=(1, 2, 3), output_stride=8)
    for pair in net.twins:  # as if trained: the second branch has gone its own way
        for conv in pair.new_convs:
            nn.init.normal_(conv.weight, std=0.1)
    return net


def test_the_old_model_has_both_branches_and_the_merged_one_alone_repeats_it(network) -> None:
    images, method = torch.randn(1, 3, 32, 32), build("rcil")
    for step in (FIRST, SECOND):
        old_model = frozen_copy(network)
        expected = old_model(images).pre_logits
        method.grow(network, step)
        network.eval()
        assert not torch.allclose(network(images).pre_logits, expected, atol=1e-4)
        alone = frozen_copy(network)
        for pair in alone.twins:  # the second branch becomes the first one, whose constant bias its norm has to add
            for conv, merged in zip(pair.new_convs, pair.convs, strict=True):
                conv.weight.copy_(merged.weight)
            pair.new_norm.load_state_dict(pair.norm.state_dict())
            pair.new_norm.bias.copy_(torch.cat([merged.bias for merged in pair.convs]))
        torch.testing.assert_close(alone(images).pre_logits, expected, rtol=1e-4, atol=1e-4)


def test_merged_branches_are_frozen_and_twins_learn(network) -> None:
    method = build("rcil")
    everything = method.trainable(network, BASE)
    assert len(everything.groups[0].parameters) == len(list(network.parameters())) and not everything.evaluation_modules
    method.grow(network, FIRST)
    trainable = method.trainable(network, FIRST)
    freeze_untrained(network, trainable.groups)
    frozen = {id(p) for p in network.parameters() if not p.requires_grad}
    merged = {id(p) for pair in network.twins for m in (*pair.convs, pair.norm) for p in m.parameters()}
    assert frozen == merged
    assert set(trainable.evaluation_modules) == {pair.norm for pair in network.twins}


@pytest.mark.parametrize("released", [True, False])
def test_initialisation_of_a_new_classifier(network, released) -> None:
    nn.init.constant_(network.cls[0].bias, 3.0)
    build("rcil", {"released_initialisation": released}).grow(network, FIRST)
    old, new = network.cls
    assert torch.equal(new.weight, old.weight[:1])
    assert (old.bias[0].item() == 3.0) is released
    assert torch.equal(new.bias, old.bias[:1]) is not released


def test_the_terms_of_an_increment(network, pixel_stream) -> None:
    method, old_model = build("rcil"), frozen_copy(network)
    method.grow(network, FIRST)
    batch = next(pixel_stream(3))
    context = step_context(FIRST, network, old_model=old_model)
    outputs, old_outputs = network(batch.images), old_model(batch.images)
    terms = method.losses(context, batch, outputs, old_outputs, batch.labels)
    assert set(terms) == {"classification", "output-distillation", "feature-distillation"}
    sum(terms.values()).backward()
    assert set(method.losses(context, batch, outputs, None, batch.labels)) == {"classification"}


def test_the_last_map_of_either_part_has_a_weight_of_its_own() -> None:
    torch.manual_seed(0)

    def outputs(channels: int) -> PixelOutputs:
        coarse, x = torch.randn(1, channels, 4, 4), torch.randn(1, 3, 4, 4)
        return PixelOutputs(coarse, x, x, coarse, (torch.randn(1, 2, 4, 4),))

    new, old = outputs(5), outputs(3)
    stage, head = (
        energy_difference(*pair) for pair in ((new.stages[0], old.stages[0]), (new.pre_logits, old.pre_logits))
    )
    coarse = energy_difference(fold_new_channels(new.logits, 3), old.logits)
    expected = (spatial_cube_distance(stage) + spatial_cube_distance(head) + 7 * spatial_cube_distance(coarse)) / 3
    expected += (channel_cube_distance(stage) + 7 * channel_cube_distance(head)) / 2
    method = build("rcil", {"feature_weight": 1.0, "logit_weight": 7.0})
    torch.testing.assert_close(method.pooled_cube_distillation(new, old), (5 / 2) ** 0.5 * expected)


def test_a_network_without_twins_is_refused_while_planning(plan) -> None:
    with pytest.raises(ConfigError, match=r"network\.name is 'deeplabv3', but has to be 'deeplabv3-rcil'"):
        plan("rcil")


def test_other_methods_share_its_base_step(plan) -> None:
    found = plan("finetuning", "mib", "rcil", name="deeplabv3-rcil")
    assert sum(training.shared for training in found.trainings.values()) == 1
