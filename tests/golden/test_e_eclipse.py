"""Decoder with prompts, manipulated logits, criterion, readings, initial weights of a step, names of the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from golden import Case, Recording, assert_close, cases_holding, key_lists, load, read_keys, unpack_bits
from replay import RecordedDraws
from torch import Tensor

from model.data.loading.mask_batch import MaskTargets
from model.losses.mask_activation import mask_probabilities
from model.losses.query_classification import softmax_focal_loss
from model.losses.query_focal import query_focal_loss
from model.losses.set_criterion import SetCriterion
from model.methods.mask.eclipse import Eclipse, manipulate_logits
from model.networks.mask2former.assembly import assemble_panoptic, assemble_semantic, best_instances, sure_queries
from model.networks.mask2former.decoder import Memory
from model.networks.mask2former.outputs import MaskPrediction
from model.networks.mask2former.prompted_decoder import PromptedDecoder
from model.networks.mask2former.prompted_network import build_eclipse

GROUP = "e_eclipse"
PREFIX = "sem_seg_head.predictor."
SAFE_MARGIN = 1e-4
"""Attention masks are thresholded: nearer to the threshold than this, single precision may decide otherwise."""
BOTH = ("float32", "float64")
LOSSES = {"loss_ce": "classification", "loss_mask": "mask", "loss_dice": "dice"}


def build(config: dict, classes: list[int]) -> PromptedDecoder:
    return PromptedDecoder(
        config["hidden_dim"],
        classes,
        prompts=config["num_prompts_per_step"],
        deep_prompts=config["prompt_deep"],
        deep_heads=config["deep_cls"] in (True, "three-layer MLP class heads"),
        own_no_object=config["prompt_no_obj_mlp"],
        channels=config["hidden_dim"],
        mask_channels=config["mask_dim"],
        queries=config["num_queries"],
        layers=config["decoder_layers"],
        heads=config["nheads"],
        feed_forward=config["ffn"],
    )


def prepared(recording: Recording, dtype: torch.dtype) -> tuple[PromptedDecoder, Memory]:
    decoder = build(recording.config, recording.config["classes_per_step"])
    names = {PREFIX + key: list(value.shape) for key, value in decoder.state_dict().items()}
    assert names == recording.config["weight_keys"]
    golden.fill(decoder, PREFIX)
    decoder = decoder.to(dtype).eval()
    maps = [recording.tensor(f"feature{level}", dtype) for level in range(3)]
    return decoder, decoder.memory(recording.tensor("mask_features", dtype), maps)


def compare(recording: Recording, run: str, stages: list[MaskPrediction], precision: golden.Precision) -> int:
    """Compare stages with what is recorded of a run; the number of arrays compared."""
    single = {f"{run}.pred_logits": stages[-1].logits, f"{run}.pred_masks": stages[-1].masks}
    double = {f"{name}.f64": value for name, value in single.items()}
    double |= {f"{run}.stage{index}.logits.f64": stage.logits for index, stage in enumerate(stages)}
    compared = 0
    for name, value in (single if precision == "float32" else double).items():
        if name in recording.arrays:
            stored = recording.arrays[name].dtype.name  # masks of the float64 run were stored in float32
            assert_close(value, recording.arrays[name], GROUP, "float32" if stored == "float32" else precision, name)
            compared += 1
    return compared


@pytest.mark.parametrize("case", cases_holding(GROUP, "eval.pred_logits"))
def test_decoder_in_double_precision(case: Case) -> None:
    check_decoder(load(case), "float64")


@pytest.mark.parametrize("case", cases_holding(GROUP, "eval.pred_logits"))
def test_decoder_in_single_precision(case: Case) -> None:
    recording = load(case)
    margins = [values.min() for name, values in recording.arrays.items() if name.endswith("attn_margin")]
    margin = float(min(margins, default=np.inf))
    if margin < SAFE_MARGIN:
        pytest.skip(f"a mask is {margin:.0e} from the threshold: compared in double precision alone")
    check_decoder(recording, "float32")


@torch.no_grad()
def check_decoder(recording: Recording, precision: golden.Precision) -> None:
    config = recording.config
    decoder, memory = prepared(recording, getattr(torch, precision))
    groups = range(len(config["classes_per_step"]))
    predictions, states = decoder.decode_groups(memory, groups)
    assert [state.shape[1] for state in states] == [sum(decoder.group_sizes)] * (config["decoder_layers"] + 1)
    manipulated = [
        MaskPrediction(
            manipulate_logits(stage.logits, decoder.group_sizes, config["classes_per_step"], config["deltas"]),
            stage.masks,
        )
        for stage in predictions
    ]
    compared = compare(recording, "eval", manipulated, precision)
    decoder.own_no_object = False  # recorded before it is put in the place of the shared one
    for index, stage in enumerate(decoder.decode_groups(memory, groups)[0]):
        name = f"eval.stage{index}.raw_logits.f64"
        if precision == "float64" and name in recording.arrays:
            assert_close(stage.logits, recording.arrays[name], GROUP, precision, name)
            compared += 1
    decoder.own_no_object = config["prompt_no_obj_mlp"]
    decoder.train()
    for run, group in (("train_new", groups[-1]), ("train_base", 0)):
        compared += compare(recording, run, list(decoder.decode_groups(memory, [group])[0]), precision)
    ending = ".f64" if precision == "float64" else ("pred_logits", "pred_masks")
    assert compared == sum(name.endswith(ending) for name in recording.arrays)


@pytest.mark.parametrize("case", cases_holding(GROUP, "num_prompts", "deep_cls"))
def test_first_weights_of_a_step(case: Case) -> None:
    recording = load(case)
    config = recording.config
    *past, current = config["classes_per_step"]
    prefix, shallow = config["key_prefix"], f"{config['key_prefix']}prompt_embed.{len(past) - 1}.weight"
    decoder = PromptedDecoder(
        config["hidden_dim"],
        past,
        prompts=config["num_prompts"],
        deep_prompts=shallow not in recording.arrays,
        deep_heads=config["deep_cls"],
        channels=config["hidden_dim"],
        mask_channels=config["hidden_dim"],
        queries=config["num_queries"],
        layers=config["decoder_layers"],
        heads=1,
        feed_forward=4,
    )
    golden.fill(decoder, prefix)
    before = {key: value.clone() for key, value in decoder.state_dict().items()}
    decoder.grow(current)
    after = decoder.state_dict()
    assert {prefix + key for key in after.keys() - before.keys()} == set(recording.arrays)
    for name, expected in recording.arrays.items():
        assert_close(after[name.removeprefix(prefix)], expected, GROUP, "float32", name)
    assert all(torch.equal(value, after[key]) for key, value in before.items())


@pytest.mark.parametrize("case", cases_holding(GROUP, "sigmoid_focal.*"))
def test_focal_loss(case: Case) -> None:
    recording = load(case)
    gammas = [int(name.split("gamma")[1].split(".")[0]) for name in recording.arrays if name.endswith(".value")]
    for gamma in sorted(set(gammas)):
        logits = recording.tensor("logits").requires_grad_()  # B, K + 1, Q
        value = query_focal_loss(logits.mT, recording.tensor("targets"), recording.config["alpha"], gamma)
        assert_close(value, recording.arrays[f"sigmoid_focal.gamma{gamma}.value"], GROUP, "float64")
        (gradient,) = torch.autograd.grad(value, logits)
        assert_close(gradient, recording.arrays[f"sigmoid_focal.gamma{gamma}.grad"], GROUP, "float64")
        softmax = softmax_focal_loss(logits.mT, recording.tensor("targets"), recording.config["alpha"], gamma)
        assert_close(softmax, recording.arrays[f"softmax_focal.gamma{gamma}.value"], GROUP, "float64")
        (gradient,) = torch.autograd.grad(softmax, logits)
        assert_close(gradient, recording.arrays[f"softmax_focal.gamma{gamma}.grad"], GROUP, "float64")


@dataclass(frozen=True)
class Stage:
    logits: Tensor
    masks: Tensor


@pytest.mark.parametrize("precision", BOTH)
@pytest.mark.parametrize("case", cases_holding(GROUP, "loss.loss_ce"))
def test_criterion(case: Case, precision: golden.Precision) -> None:
    recording = load(case)
    config, dtype = recording.config, getattr(torch, precision)
    auxiliary = sum(name.startswith("aux") and name.endswith("pred_logits") for name in recording.arrays)
    names = [*(f"aux{index}" for index in range(auxiliary)), "last"]
    stages = [
        Stage(*(recording.tensor(f"{name}.pred_{what}", dtype).requires_grad_() for what in ("logits", "masks")))
        for name in names
    ]
    targets = []
    for image in range(len(stages[0].logits)):
        shape = recording.document["arrays"][f"target{image}.masks"]["meaning"].rpartition("original shape ")[2]
        size = [int(side) for side in shape.strip("[]").split(",")]
        masks = torch.from_numpy(unpack_bits(recording.arrays[f"target{image}.masks"], size))
        targets.append(MaskTargets(recording.tensor(f"target{image}.labels"), masks))
    class_weight, mask_weight, dice_weight = config["costs_class_mask_dice"]
    method = Eclipse(
        class_weight=class_weight,
        mask_weight=mask_weight,
        dice_weight=dice_weight,
        focal_alpha=config["focal_alpha"],
        focal_gamma=config["focal_gamma"],
    )
    criterion = SetCriterion(config["num_points"], config["oversample"], config["importance"])
    draws = RecordedDraws(recording, dtype)
    per_layer = method.prediction_losses(criterion, stages, targets, draws)
    assert draws.remaining == []
    for name, losses in zip(names, per_layer, strict=True):
        for image, match in enumerate(losses.matches):
            np.testing.assert_array_equal(match.queries, recording.arrays[f"{name}.match{image}.query"])
            np.testing.assert_array_equal(match.targets, recording.arrays[f"{name}.match{image}.target"])
        for recorded, mine in LOSSES.items():
            stage = "" if name == "last" else "_" + name.removeprefix("aux")
            key = f"loss.{recorded}{stage}{'.f32' if precision == 'float32' else ''}"
            assert_close(getattr(losses, mine), recording.arrays[key], GROUP, precision, key)
    for recorded, what in (("loss_ce", "logits"), ("loss_mask", "masks"), ("loss_dice", "masks")):
        value = getattr(per_layer[-1], LOSSES[recorded])
        (gradient,) = torch.autograd.grad(value, getattr(stages[-1], what), retain_graph=True)
        key = f"grad.{recorded}.pred_{what}"
        stored = recording.arrays[key].dtype.name
        assert_close(
            gradient, recording.arrays[key], GROUP, "float32" if "float32" in (stored, precision) else "float64", key
        )


@pytest.mark.parametrize("case", cases_holding(GROUP, "sem_argmax"))
def test_readings(case: Case) -> None:
    recording = load(case)
    config, arrays = recording.config, recording.arrays
    logits, masks = recording.tensor("pred_logits"), recording.tensor("pred_masks")
    things = torch.zeros(config["K"], dtype=torch.bool)
    things[[shifted - 1 for shifted in config["things_shifted_ids"]]] = True
    thresholds = (config["object_mask_threshold"], config["overlap_threshold"])
    masks = mask_probabilities(masks, "softmax" if config["softmask"] else "sigmoid")
    if config["softcls"]:  # CoMFormer's reading, which the same functions serve
        classes = logits.softmax(dim=-1)
        candidates = sure_queries(classes, masks, thresholds[0])
        labels = assemble_semantic(candidates, thresholds[1])
        ids, segments = assemble_panoptic(candidates, things, thresholds[1])
        instances = best_instances(classes[:, :-1], masks, config["topk"])
    else:
        method = Eclipse(object_threshold=thresholds[0], overlap_threshold=thresholds[1], max_detections=config["topk"])
        labels = method.semantic(logits, masks)
        ids, segments = method.panoptic(logits, masks, things)
        instances = method.instances(logits, masks)
    np.testing.assert_array_equal(labels.numpy(), arrays["sem_argmax"])
    np.testing.assert_array_equal(ids.numpy(), arrays["panoptic_seg"])
    rows = np.array([(s.id, s.category + 1, s.isthing) for s in segments]).reshape(-1, 3)
    np.testing.assert_array_equal(rows, arrays["panoptic_info"])
    assert_close(instances.scores, arrays["instances.scores"], GROUP, "float32")
    np.testing.assert_array_equal(instances.classes.numpy(), arrays["instances.classes"])
    recorded = unpack_bits(arrays["instances.masks"], instances.masks.shape)
    np.testing.assert_array_equal(instances.masks.numpy(), recorded)


@pytest.mark.parametrize("path", key_lists("eclipse_*.txt"))
def test_names_and_shapes_of_released_checkpoints(path: Path) -> None:
    expected = {key: shape for key, (shape, _) in read_keys(path).items() if not key.startswith("criterion.")}
    heads = [key for key in expected if ".class_embed.cls." in key and key.endswith("layers.2.bias")]
    _, base, *increments = (expected[key][0] for key in sorted(heads, key=lambda key: int(key.split(".")[4])))
    with torch.device("meta"):
        network = build_eclipse([base])
        for classes in increments:
            network.grow(classes)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == expected
