"""The whole network on small images: every intermediate result, post-processing, gradients, names of the weights."""

from __future__ import annotations

from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from golden import Case, Recording, assert_close, cases, load, unpack_bits
from torch import Tensor

from model.networks.mask2former.assembly import assemble_panoptic, best_instances, semantic_votes, sure_queries
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.networks.mask2former.outputs import MaskOutputs
from model.networks.mask2former.padding import pad_images, resize_masks
from model.networks.mask2former.released_weights import from_swin, to_swin

GROUP = "b_mask2former"
STAGES = ("res2", "res3", "res4", "res5")
PRECISIONS = pytest.mark.parametrize("precision", ["float32", "float64"])


def build(config: dict) -> Mask2Former:
    pixel = config["pixel_decoder"]
    network = build_mask2former(
        [config["num_classes"]],
        backbone="resnet50",
        norm="frozen-bn",
        head="joint",
        channels=config["hidden_dim"],
        pixel_channels=config["conv_dim"],
        mask_channels=config["mask_dim"],
        queries=config["num_queries"],
        encoder_layers=pixel["encoder_layers"],
        encoder_heads=config[
            "nheads"
        ],  # the released code sets both from one key; config.pixel_decoder.heads is not read
        encoder_points=pixel["points"],
        encoder_feed_forward=pixel["encoder_ffn"],
        decoder_layers=config["decoder_layers"],
        decoder_heads=config["nheads"],
        decoder_feed_forward=config["decoder_ffn"],
    )
    golden.fill(network)
    return network.eval()


def images(recording: Recording, dtype: torch.dtype) -> list[Tensor]:
    mean = torch.tensor(recording.config["pixel_mean"])[:, None, None]
    std = torch.tensor(recording.config["pixel_std"])[:, None, None]
    count = sum(name.startswith("image") and "." not in name for name in recording.arrays)
    photographs = [recording.tensor(f"image{index}", dtype) for index in range(count)]
    return [(image - mean.to(dtype)) / std.to(dtype) for image in photographs]


@pytest.fixture(scope="module")
def forward():
    """Forward passes of this module, each computed once."""
    done: dict[tuple[str, str], tuple[Mask2Former, list[Tensor], MaskOutputs]] = {}

    def run(case: Case, precision: str) -> tuple[Mask2Former, list[Tensor], MaskOutputs]:
        key = (case.name, precision)
        if key not in done:
            dtype = getattr(torch, precision)
            recording = load(case)
            network = build(recording.config).to(dtype)
            inputs = images(recording, dtype)
            with torch.no_grad():
                done[key] = (network, inputs, network(pad_images(inputs)))
        return done[key]

    return run


@PRECISIONS
@pytest.mark.parametrize("case", cases(GROUP))
def test_intermediate_results(case: Case, precision: golden.Precision, forward) -> None:
    recording = load(case)
    network, _, outputs = forward(case, precision)
    with torch.no_grad():
        _, maps = network.sem_seg_head.pixel_decoder(outputs.features)
    mine = {f"backbone.{stage}": outputs.features[stage] for stage in STAGES}
    mine["pixel_decoder.mask_features"] = outputs.mask_features
    mine |= {f"pixel_decoder.multi_scale{level}": map_ for level, map_ in enumerate(maps)}
    for stage, prediction in enumerate(outputs.predictions):
        mine[f"pred_logits.{stage}"] = prediction.logits
        mine[f"pred_masks.{stage}"] = prediction.masks
    compared = 0
    for name, value in mine.items():
        if name in recording.arrays:  # recorded in single precision
            assert_close(value, recording.arrays[name], GROUP, "float32", name)
            compared += 1
        exact = f"{name}.f64"
        if exact in recording.arrays:
            assert_close(value, recording.arrays[exact], GROUP, precision, exact)
            compared += 1
        if f"{name}.checksum_f64" in recording.arrays and precision == "float64":
            sums = torch.stack([value.sum(), value.abs().sum(), value.square().sum()])
            assert_close(sums, recording.arrays[f"{name}.checksum_f64"], GROUP, precision, name)
    parts = ("backbone.", "pixel_decoder.", "pred_logits.", "pred_masks.")
    assert compared == sum(name.startswith(parts) and "checksum" not in name for name in recording.arrays)


@PRECISIONS
@pytest.mark.parametrize("case", cases(GROUP))
def test_post_processing(case: Case, precision: golden.Precision, forward) -> None:
    recording = load(case)
    config, arrays = recording.config, recording.arrays
    _, inputs, outputs = forward(case, precision)
    things = torch.zeros(config["num_classes"], dtype=torch.bool)
    things[config["thing_classes"]] = True
    for index, image in enumerate(inputs):
        height, width = image.shape[-2:]
        classes = outputs.logits[index].softmax(dim=-1)
        masks = resize_masks(outputs.masks[index], outputs.image_size, (height, width), (height, width)).sigmoid()
        prefix = f"image{index}."
        scores = semantic_votes(classes[:, :-1], masks)
        assert_close(scores, arrays[prefix + "sem_seg"], GROUP, "float32", prefix + "sem_seg")
        candidates = sure_queries(classes, masks, config["object_mask_threshold"])
        ids, segments = assemble_panoptic(candidates, things, config["overlap_threshold"])
        np.testing.assert_array_equal(ids.numpy(), arrays[prefix + "panoptic_seg"])
        rows = np.array([(s.id, s.category, s.isthing) for s in segments]).reshape(-1, 3)
        np.testing.assert_array_equal(rows, arrays[prefix + "panoptic_info"])
        instances = best_instances(classes[:, :-1], masks, config["topk"], things)
        assert_close(instances.scores, arrays[prefix + "instances.scores"], GROUP, "float32", prefix + "scores")
        np.testing.assert_array_equal(instances.classes.numpy(), arrays[prefix + "instances.classes"])
        recorded = [unpack_bits(row, (height, width)) for row in arrays[prefix + "instances.masks"]]
        np.testing.assert_array_equal(instances.masks.numpy(), np.array(recorded).reshape(-1, height, width))


@pytest.mark.parametrize("case", cases(GROUP))
def test_parameter_gradients(case: Case, forward) -> None:
    recording = load(case)
    network, inputs, _ = forward(case, "float64")
    network.zero_grad()
    outputs = network(pad_images(inputs[:1]))
    scalar = (outputs.logits * recording.tensor("grad.G_logits")).sum()
    scalar = scalar + (outputs.masks * recording.tensor("grad.G_masks", torch.float64)).sum()
    assert_close(scalar, recording.arrays["grad.scalar"], GROUP, "float64", "scalar")
    scalar.backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    assert set(gradients) == set(recording.config["grad_parameter_names"])
    names = recording.config["grad_parameter_names"]
    for name, (norm, total) in zip(names, recording.arrays["grad.norms"], strict=True):
        assert_close(gradients[name].norm(), norm, GROUP, "float64", f"norm of {name}")
        assert_close(gradients[name].sum(), total, GROUP, "float64", f"sum of {name}")


def key_lists(pattern: str) -> list:
    root = golden.folder()
    if root is None or not (found := sorted((root / "keys").glob(pattern))):
        return [golden.missing(golden.absence() or f"there is no key list {pattern}")]
    return [pytest.param(path, id=path.stem) for path in found]


def entries(path: Path) -> dict[str, list[int]]:
    lines = [line.split("\t") for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return {
        key: [int(size) for size in shape.strip("[]").split(",") if size.strip()]
        for key, shape, _ in lines
        if not key.startswith("criterion.")
    }


def classes_of(expected: dict[str, list[int]], prefix: str) -> list[int]:
    steps = sorted(
        (int(key.split(".")[-2]), shape[0])
        for key, shape in expected.items()
        if prefix in key and key.endswith("weight")
    )
    return [rows for _, rows in steps]


@pytest.mark.parametrize("path", key_lists("mask2former_R*.txt"))
def test_names_and_shapes_of_public_checkpoints(path: Path) -> None:
    expected = entries(path)
    classes = expected["sem_seg_head.predictor.class_embed.weight"][0] - 1
    backbone = "resnet101" if "_R101_" in path.name else "resnet50"
    norm = "bn" if any(key.endswith("num_batches_tracked") for key in expected) else "frozen-bn"
    with torch.device("meta"):
        network = build_mask2former([classes], backbone=backbone, norm=norm, head="joint")
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected


def swin_of(expected: dict[str, list[int]]) -> str:
    """Name in timm of the Swin whose weights a list holds."""
    width = expected["backbone.patch_embed.proj.weight"][0]
    depth = len({key.split(".")[4] for key in expected if key.startswith("backbone.layers.2.blocks.")})
    cells = expected["backbone.layers.0.blocks.0.attn.relative_position_index"][0]
    size = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}[width, depth]
    return f"swin_{size}_patch4_window{ {49: '7_224', 144: '12_384'}[cells] }"


@pytest.mark.parametrize("path", key_lists("mask2former_swin*.txt"))
def test_names_and_shapes_of_public_checkpoints_on_swin(path: Path) -> None:
    expected = entries(path)
    classes = expected["sem_seg_head.predictor.class_embed.weight"][0] - 1
    queries = expected["sem_seg_head.predictor.query_feat.weight"][0]
    backbone = f"timm/{swin_of(expected)}"
    with torch.device("meta"):
        network = build_mask2former([classes], backbone=backbone, norm="own", head="joint", queries=queries)
    official = to_swin(network.state_dict())
    assert {key: list(value.shape) for key, value in official.items()} == expected
    assert from_swin(official).keys() == network.state_dict().keys()


@pytest.mark.parametrize("path", key_lists("balconpas_R*.txt"))
def test_names_and_shapes_of_balconpas_checkpoints(path: Path) -> None:
    expected = entries(path)
    base, *increments = classes_of(expected, "class_embeds.")
    with torch.device("meta"):
        network = build_mask2former([base - 1], head="steps")
        for classes in increments:
            network.grow(classes)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected


@pytest.mark.parametrize("path", key_lists("comformer_R*.txt"))
def test_names_and_shapes_of_comformer_checkpoints(path: Path) -> None:
    expected = entries(path)
    no_object, base, *increments = classes_of(expected, "class_embed.cls.")
    assert no_object == 1
    with torch.device("meta"):
        network = build_mask2former([base], head="separate-no-object")
        for classes in increments:
            network.grow(classes)
    assert {key: list(value.shape) for key, value in network.state_dict().items()} == expected
