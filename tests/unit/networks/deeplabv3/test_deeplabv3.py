"""DeepLabV3: growth, outputs, both heads, the background initialisation."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from model.networks.deeplabv3.dkd_head import DkdHead
from model.networks.deeplabv3.initialisation import initialise_from_background
from model.networks.deeplabv3.mib_head import MibHead, windowed_average
from model.networks.deeplabv3.network import DeepLabV3, NetworkError


def tiny(classes_per_step=(3,), **arguments) -> DeepLabV3:
    return DeepLabV3(classes_per_step, **{"backbone": "tiny", "channels": 16, "rates": (1, 2, 3), **arguments})


@pytest.mark.parametrize("head", ["mib", "dkd"])
def test_outputs(head) -> None:
    network = tiny((3, 2), head=head)
    outputs = network(torch.randn(2, 3, 64, 48))
    assert outputs.logits.shape == (2, 6, 64, 48)
    assert outputs.coarse_logits.shape == (2, 6, 4, 3)
    assert outputs.pre_logits.shape == (2, 16, 4, 3)
    assert outputs.body.shape == (2, 128, 4, 3)
    assert outputs.stages == ()
    x = outputs.pre_logits
    coarse = torch.cat([network.cls[0](x), network.cls[1](x)], dim=1)
    expected = functional.interpolate(coarse, (64, 48), mode="bilinear", align_corners=False)
    torch.testing.assert_close(outputs.logits, expected)


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [({}, [4, 2, 1]), ({"background": False}, [3, 2, 1]), ({"background": False, "auxiliary": True}, [1, 3, 2, 1])],
    ids=["background", "star", "dkd"],
)
def test_growth_appends_one_classifier_a_step(arguments, channels) -> None:
    network = tiny((3,), **arguments)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for classes in (2, 1):
        network.grow(classes)
    assert network.classes_per_step == [3, 2, 1]
    assert [classifier.out_channels for classifier in network.cls] == channels
    after = network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_growth_keeps_type_and_old_logits() -> None:
    network = tiny().double().eval()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    old = network(images).logits
    network.grow(2)
    new = network(images).logits
    assert new.dtype == torch.float64
    torch.testing.assert_close(new[:, :4], old, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("classes", "arguments", "message"),
    [
        ((), {}, "at least one class"),
        ((3, 0), {}, "at least one class"),
        ((3,), {"backbone": "resnet9"}, "unknown backbone 'resnet9'"),
        ((3,), {"head": "aspp"}, "unknown head 'aspp'"),
        ((3,), {"auxiliary": True}, "not both"),
    ],
)
def test_arguments_that_describe_no_network(classes, arguments, message) -> None:
    with pytest.raises(NetworkError, match=message):
        tiny(classes, **arguments)


def test_growth_by_no_class_is_refused() -> None:
    with pytest.raises(NetworkError, match="at least one new class"):
        tiny().grow(0)


def test_half_precision_logits_are_raised_to_single() -> None:
    network = tiny()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = network(torch.randn(2, 3, 32, 32))
    assert outputs.pre_logits.dtype == torch.bfloat16
    assert outputs.logits.dtype == torch.float32


def test_no_value_depends_on_hidden_state() -> None:
    logits = []
    for _ in range(2):
        torch.manual_seed(3)
        logits.append(tiny()(torch.randn(2, 3, 32, 32)).logits)
    torch.testing.assert_close(*logits, rtol=0, atol=0)


def test_mib_head_is_linear_between_convolutions_without_an_activation() -> None:
    head = MibHead(4, 8, rates=(1,), act="identity").double().eval()
    a, b = torch.randn(2, 1, 4, 5, 6, dtype=torch.float64)
    zero = head(torch.zeros_like(a))
    torch.testing.assert_close(head(a + b) - zero, (head(a) - zero) + (head(b) - zero))
    with_activation = MibHead(4, 8, rates=(1,)).double().eval()
    zero = with_activation(torch.zeros_like(a))
    assert not torch.allclose(with_activation(a + b) - zero, with_activation(a) + with_activation(b) - 2 * zero)


def test_mib_head_pools_globally_in_training_and_in_windows_in_evaluation() -> None:
    head = MibHead(3, 4, pooling_window=4)
    features = torch.randn(2, 3, 6, 7)
    torch.testing.assert_close(head.pool(features), features.mean(dim=(2, 3), keepdim=True))
    pooled = head.eval().pool(features)
    assert pooled.shape == features.shape
    torch.testing.assert_close(pooled[:, :, 1, 1], features[:, :, :4, :4].mean(dim=(2, 3)))
    torch.testing.assert_close(pooled[:, :, 3, 3], features[:, :, 2:6, 2:6].mean(dim=(2, 3)))
    torch.testing.assert_close(pooled[:, :, 0, 0], pooled[:, :, 1, 1])  # borders repeat the outermost window
    torch.testing.assert_close(pooled[:, :, 5, 6], features[:, :, 2:, 3:].mean(dim=(2, 3)))


@pytest.mark.parametrize("size", [(3, 5), (4, 4), (1, 1)])
def test_a_window_over_the_whole_map_is_the_global_average(size) -> None:
    features = torch.randn(2, 3, *size)
    expected = features.mean(dim=(2, 3), keepdim=True).expand_as(features)
    torch.testing.assert_close(windowed_average(features, 32), expected)


def test_head_initialisation() -> None:
    torch.manual_seed(0)
    head = MibHead(64, 64)
    weight = head.map_convs[1].weight
    gain = nn.init.calculate_gain("leaky_relu", 0.01)
    assert weight.std().item() == pytest.approx(gain * (2 / (64 * 9 + 64 * 9)) ** 0.5, rel=0.02)
    assert all(torch.equal(bn.weight, torch.ones_like(bn.weight)) for bn in (head.map_bn, head.red_bn))
    assert not any("bias" in name and "bn" not in name for name, _ in head.named_parameters())
    plain = MibHead(64, 64, initialisation="pytorch").map_convs[1].weight
    assert plain.std().item() == pytest.approx((1 / (3 * 64 * 9)) ** 0.5, rel=0.02)
    assert plain.abs().max() <= (1 / (64 * 9)) ** 0.5
    dkd = DkdHead(64, 64)
    assert dkd.convs[1][0].weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.02)


def test_dkd_head_is_never_negative_and_drops_nothing_in_evaluation() -> None:
    head = DkdHead(8, 8, dropout=0.5)
    features = torch.randn(2, 8, 5, 5)
    assert head(features).min() >= 0
    head.eval()
    torch.testing.assert_close(head(features), head(features), rtol=0, atol=0)


def test_background_initialisation_spreads_the_background_probability() -> None:
    network = tiny((3, 2)).double().eval()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    old = network(images).coarse_logits.softmax(dim=1)
    network.grow(4)
    initialise_from_background(network.cls)
    new = network(images).coarse_logits.softmax(dim=1)
    torch.testing.assert_close(new[:, 1:6], old[:, 1:])  # old classes keep their probability
    torch.testing.assert_close(new[:, [0, 6, 7, 8, 9]], (old[:, :1] / 5).expand(-1, 5, -1, -1))


def test_background_initialisation_needs_an_earlier_classifier() -> None:
    with pytest.raises(ValueError, match="no earlier classifier"):
        initialise_from_background(tiny().cls)


def test_sync_batch_norm_conversion_keeps_names_and_values() -> None:
    network = tiny().eval()
    images = torch.randn(1, 3, 32, 32)
    before, keys = network(images).logits, list(network.state_dict())
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(network)
    assert list(converted.state_dict()) == keys
    torch.testing.assert_close(converted(images).logits, before, rtol=0, atol=0)


def test_features_learn_nothing_through_the_auxiliary_classifier() -> None:
    network = tiny((3,), head="dkd", background=False, auxiliary=True)
    network(torch.randn(2, 3, 32, 32)).logits[:, 0].sum().backward()
    moved = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().max() > 0}
    assert moved == {"cls.0.weight", "cls.0.bias"}
