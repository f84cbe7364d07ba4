"""The network as a whole: growth, class heads, attention masks, precision, initial values."""

from __future__ import annotations

import math

import pytest
import torch

from model.networks.mask2former.class_heads import JointHead, SeparateNoObjectHeads, StepHeads
from model.networks.mask2former.decoder import attention_mask
from model.networks.mask2former.deformable import DeformableAttention, cell_centres
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.networks.mask2former.padding import pad_images, padded_size
from model.networks.mask2former.positions import sine_positions


def small(classes_per_step=(3,), **arguments) -> Mask2Former:
    defaults = dict(
        backbone="tiny",
        norm="gn",
        channels=32,
        queries=7,
        encoder_layers=1,
        encoder_heads=4,
        encoder_feed_forward=32,
        decoder_layers=3,
        decoder_heads=4,
        decoder_feed_forward=32,
    )
    torch.manual_seed(0)
    return build_mask2former(list(classes_per_step), **(defaults | arguments))


def test_shapes_of_the_outputs() -> None:
    outputs = small((3, 2))(torch.randn(2, 3, 64, 96))
    assert len(outputs.predictions) == len(outputs.queries) == 4
    for prediction, queries in zip(outputs.predictions, outputs.queries, strict=True):
        assert prediction.logits.shape == (2, 7, 6)
        assert prediction.masks.shape == (2, 7, 16, 24)
        assert queries.shape == (2, 7, 32)
    assert outputs.image_size == (64, 96)
    assert [tuple(outputs.features[f"res{i}"].shape[-2:]) for i in (2, 3, 4, 5)] == [(16, 24), (8, 12), (4, 6), (2, 3)]


def test_every_parameter_gets_a_gradient() -> None:
    network = small((3, 2))
    for name, parameter in network.named_parameters():
        if "sampling_offsets.weight" in name or "attention_weights.weight" in name:
            torch.nn.init.normal_(parameter, std=0.1)  # zero at first: then nothing depends on the positions
    outputs = network(torch.randn(1, 3, 64, 64))
    sum((p.logits.square().sum() + p.masks.square().mean()) for p in outputs.predictions).backward()
    without = [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().sum() == 0]
    assert without == []


def test_growth_keeps_the_old_logits_and_the_place_of_no_object() -> None:
    network = small((3,)).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = network(images)
        network.grow(2)
        after = network(images)
    assert network.classes_per_step == [3, 2]
    assert torch.equal(after.logits[..., :3], before.logits[..., :3])
    assert torch.equal(after.logits[..., -1], before.logits[..., -1])
    assert torch.equal(after.masks, before.masks)
    assert after.logits.shape[-1] == 6


def test_a_grown_network_equals_one_built_for_all_steps() -> None:
    grown = small((3,))
    grown.grow(2)
    built = small((3, 2))
    assert {k: v.shape for k, v in grown.state_dict().items()} == {k: v.shape for k, v in built.state_dict().items()}


@pytest.mark.parametrize("head", [StepHeads, SeparateNoObjectHeads])
def test_heads_emit_learning_order(head) -> None:
    layers = head(4, (2, 3))
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.zero_()
        if head is StepHeads:
            layers[0].bias.copy_(torch.tensor([0.0, 1.0, 9.0]))
            layers[1].bias.copy_(torch.tensor([2.0, 3.0, 4.0]))
        else:
            layers.cls[0].bias.fill_(9.0)
            layers.cls[1].bias.copy_(torch.tensor([0.0, 1.0]))
            layers.cls[2].bias.copy_(torch.tensor([2.0, 3.0, 4.0]))
    assert layers(torch.zeros(4)).tolist() == [0, 1, 2, 3, 4, 9]
    assert layers.classes_per_step == [2, 3]


def test_a_joint_head_does_not_grow() -> None:
    with pytest.raises(ValueError, match="steps"):
        JointHead(4, (2,)).grow(1)
    with pytest.raises(ValueError, match="one step"):
        JointHead(4, (2, 1))


@pytest.mark.parametrize(("argument", "value"), [("backbone", "resnet7"), ("head", "round"), ("norm", "none")])
def test_unknown_names_are_refused_with_the_known_ones(argument: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"'{value}'; choose one of"):
        small(**{argument: value})


@pytest.mark.parametrize(
    "arguments", [{"channels": 48}, {"encoder_heads": 5}, {"decoder_heads": 5}, {"channels": 30, "pixel_channels": 32}]
)
def test_channels_that_do_not_divide_are_refused(arguments: dict) -> None:
    with pytest.raises(ValueError, match="must be a multiple of"):
        small(**arguments)


def test_a_query_whose_mask_is_empty_looks_everywhere() -> None:
    masks = torch.full((1, 2, 4, 4), -5.0)
    masks[0, 1, 0, 0] = 50.0
    allowed = attention_mask(masks, (2, 2))
    assert allowed[0, 0].all()
    assert allowed[0, 1].tolist() == [True, False, False, False]


def test_attention_masks_pass_no_gradient() -> None:
    masks = torch.randn(1, 2, 4, 4, requires_grad=True)
    assert not attention_mask(masks, (2, 2)).requires_grad


def test_the_pixel_decoder_stays_in_single_precision_under_autocast() -> None:
    network = small()
    with torch.autocast("cpu", torch.bfloat16):
        outputs = network(torch.randn(1, 3, 64, 64))
    assert outputs.mask_features.dtype == torch.float32
    assert outputs.logits.dtype == torch.bfloat16
    assert outputs.logits.isfinite().all() and outputs.masks.isfinite().all()


def test_initial_sampling_points_form_a_star() -> None:
    layer = DeformableAttention(32, levels=3, heads=8, points=4)
    offsets = layer.sampling_offsets.bias.view(8, 3, 4, 2)
    assert layer.sampling_offsets.weight.abs().sum() == 0
    torch.testing.assert_close(offsets[0, 0], torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]]))
    torch.testing.assert_close(offsets[1, 2, 3], torch.tensor([4.0, 4.0]))  # 45°, pushed out to the square
    assert torch.equal(offsets[:, 0], offsets[:, 1])


def test_boxes_scale_the_offsets() -> None:
    torch.manual_seed(0)
    layer = DeformableAttention(8, levels=1, heads=2, points=2)
    memory, query = torch.randn(1, 16, 8), torch.randn(1, 1, 8)
    pixels = layer(query, torch.tensor([[[[0.5, 0.5]]]]), memory, [(4, 4)])
    # half a box divided by two points is a pixel of a quarter of the map where the box covers it whole
    box = layer(query, torch.tensor([[[[0.5, 0.5, 1.0, 1.0]]]]), memory, [(4, 4)])
    torch.testing.assert_close(pixels, box)


def test_reference_points_are_the_centres_of_the_cells() -> None:
    centres = cell_centres([(1, 2), (2, 2)])
    expected = [[0.25, 0.5], [0.75, 0.5], [0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    torch.testing.assert_close(centres, torch.tensor(expected))


def test_positions_encode_rows_before_columns() -> None:
    encoding = sine_positions(3, 5, 8)
    assert encoding.shape == (1, 16, 3, 5)
    assert torch.equal(encoding[:, :8, :, 0], encoding[:, :8, :, 4])
    assert torch.equal(encoding[:, 8:, 0], encoding[:, 8:, 2])
    torch.testing.assert_close(encoding[0, 0, 0, 0], torch.tensor(math.sin(2 * math.pi / 3)), atol=1e-5, rtol=0)


def test_padding_is_zero_and_on_the_far_sides() -> None:
    images = [torch.ones(3, 20, 33), torch.ones(3, 40, 5)]
    batch = pad_images(images)
    assert batch.shape == (2, 3, 64, 64) and padded_size([(20, 33), (40, 5)]) == (64, 64)
    assert (
        batch[0, :, :20, :33].min() == 1 and batch[0, :, 20:].abs().max() == 0 and batch[0, :, :, 33:].abs().max() == 0
    )
