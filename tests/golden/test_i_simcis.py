"""SimCIS: choice of cells, decoder with boxes, losses and gradients of a step, pseudo targets, readings, names of the weights."""

from __future__ import annotations

from pathlib import Path

import golden
import numpy as np
import pytest
import torch
from contexts import step_context
from golden import Case, Recording, assert_close, cases_holding, key_lists, load, read_keys, unpack_bits
from replay import RecordedDraws
from torch import Tensor, nn

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.losses.box_criterion import BoxCriterion, BoxedTargets
from model.losses.boxes import mask_boxes
from model.losses.mask_pseudo_targets import certain_predictions, pseudo_targets, united
from model.losses.selection_distillation import selection_distillation
from model.methods.mask.query_bank import class_weights, empty_bank
from model.methods.mask.simcis import SimCIS, SimCISTargets
from model.networks.mask2former.box_positions import proposals
from model.networks.mask2former.outputs import MaskOutputs
from model.networks.mask2former.selecting_decoder import PreallocatedHead, SelectingDecoder
from model.networks.mask2former.selecting_network import (
    Comparison,
    VirtualQueries,
    build_simcis,
    select_and_decode,
)
from model.scenario import Step

GROUP = "i_simcis"


def boxed_targets(recording: Recording, kind: str) -> list[MaskTargets]:
    found = []
    while f"{kind}{len(found)}.labels" in recording.arrays:
        name = f"{kind}{len(found)}"
        shape = recording.document["arrays"][f"{name}.masks"]["meaning"].rpartition("[")[2].rstrip("]")
        masks = unpack_bits(recording.arrays[f"{name}.masks"], [int(side) for side in shape.split(",")])
        found.append(MaskTargets(recording.tensor(f"{name}.labels"), torch.from_numpy(masks)))
    return found


# ------------------------------------------------------------------------------------------------------- one training step


def decoder_of(recording: Recording, which: str) -> SelectingDecoder:
    config = recording.config
    columns, old = config["logit_columns"], config["old_classes"]
    steps = [old] if which == "old" else [old, len(config["current_ids"])]
    width = config["hidden"]
    decoder = SelectingDecoder(
        width,
        PreallocatedHead(width, steps, columns),
        channels=width,
        mask_channels=width,
        queries=config["Q"],
        layers=config["decoder_layers"],
        heads=config["heads"],
        feed_forward=config["ffn"],
    )
    names = {key: list(value.shape) for key, value in decoder.state_dict().items() if not key.startswith("bbox_embed.")}
    assert names == config["keys"]
    golden.fill(decoder, f"{which}.", skip=("bbox_embed.",))
    return decoder.double()


class RecordedStep:
    """The forward passes of old and new decoder, and the method as it was configured."""

    def __init__(self, recording: Recording) -> None:
        self.recording, config = recording, recording.config
        self.inputs = {
            name: recording.tensor(name, torch.float64).requires_grad_() for name in ("mask_features", "x0", "x1", "x2")
        }
        maps = [self.inputs[f"x{level}"] for level in range(3)]
        with torch.no_grad():
            self.old = select_and_decode(decoder_of(recording, "old"), self.inputs["mask_features"], maps)
        self.decoder = decoder_of(recording, "new")
        virtual = None
        if config["vq_per_image"]:
            virtual = VirtualQueries(recording.tensor("vq_vectors", torch.float64), recording.tensor("vq_labels"))
        comparison = Comparison(self.old.selection.positions, decode=config["kd_decoder"])
        self.new = select_and_decode(self.decoder, self.inputs["mask_features"], maps, virtual, comparison)
        costs, weights = config["matching_costs"], config["loss_weights"]
        self.method = SimCIS(
            class_weight=weights["ce"],
            mask_weight=weights["mask"],
            dice_weight=weights["dice"],
            box_weight=weights["bbox"],
            overlap_weight=weights["giou"],
            selection_weight=weights["kl"],
            decoder_weight=weights["kl"] if config["kd_decoder"] else 0.0,
            selection_temperature=config["kd_temperature_selection"],
            decoder_temperature=config["kd_temperature_decoder"],
            virtual_queries=config["vq_per_image"],
            balance_exponent=config["distribution_alpha"],
        )
        self.criterion = BoxCriterion(
            config["num_points"],
            config["oversample"],
            config["importance"],
            costs["class (focal form)"],
            costs["mask"],
            costs["dice"],
            box_cost=costs["box L1"],
            overlap_cost=costs["giou"],
        )
        pseudo, truth = boxed_targets(recording, "pseudo"), boxed_targets(recording, "target")
        self.targets = tuple(BoxedTargets.of(one.followed_by(two)) for one, two in zip(pseudo, truth, strict=True))

    @property
    def stages(self) -> dict[str, int]:
        count = len(self.new.predictions)
        return {"interm": 0} | {f"aux{k}": k + 1 for k in range(count - 2)} | {"final": count - 1}


TRAINING = pytest.mark.parametrize("case", cases_holding(GROUP, "loss.loss_ce"))


@pytest.fixture(scope="module")
def recorded():
    done: dict[str, RecordedStep] = {}

    def run(case: Case) -> RecordedStep:
        if case.name not in done:
            done[case.name] = RecordedStep(load(case))
        return done[case.name]

    return run


@TRAINING
def test_chosen_cells_and_predictions(case: Case, recorded) -> None:
    step = recorded(case)
    arrays, new, old = step.recording.arrays, step.new, step.old
    np.testing.assert_array_equal(old.selection.positions, arrays["old.positions"])
    np.testing.assert_array_equal(new.selection.positions, arrays["new.positions"])
    mine: dict[str, Tensor] = {
        "old.selected_logits": old.predictions[0].logits,
        "old.final_logits": old.predictions[-1].logits,
        "new.position_scores": new.predictions[0].logits[:, : new.selection.features.shape[1]].amax(dim=-1),
        "selected_features": new.selection.features,
        "distill.selected_logits": new.distilled.selected,
        "distill.final_logits": new.distilled.final,
    }
    for name, number in step.stages.items():
        for what in ("logits", "masks", "boxes"):
            mine[f"{name}.pred_{what}"] = getattr(new.predictions[number], what)
    compared = 0
    for name, value in mine.items():
        if name in arrays:
            assert_close(value, arrays[name], GROUP, "float64", name)  # many are stored in single precision
            compared += 1
    assert compared == sum(name in arrays for name in mine) >= 8


@TRAINING
def test_boxes_of_targets_and_weights_of_classes(case: Case) -> None:
    recording = load(case)
    for kind in ("target", "pseudo"):
        for image, one in enumerate(boxed_targets(recording, kind)):
            assert_close(mask_boxes(one.masks), recording.arrays[f"{kind}{image}.boxes"], GROUP, "float64")
    old = recording.config["old_classes"]
    weights = class_weights(recording.tensor("pseudo_counts")[:old], recording.config["distribution_alpha"])
    assert_close(weights, recording.arrays["vq_sampling_weights"], GROUP, "float64")


@TRAINING
def test_losses_and_gradients_of_the_step(case: Case, recorded) -> None:
    """Through the method's hook, whose sum is what the training loop minimises."""
    step = recorded(case)
    recording, arrays, config = step.recording, step.recording.arrays, step.recording.config
    draws = RecordedDraws(recording, torch.float64)

    class Recorded(SimCIS):
        def point_source(self, outputs: MaskOutputs) -> RecordedDraws:
            return draws

    method = Recorded(**vars(step.method))
    network = nn.Module()
    network.criterion = step.criterion  # type: ignore[assignment]
    ids = tuple(range(config["old_classes"]))
    context = step_context(
        Step(config["task"] - 1, ids, tuple(config["current_ids"])),
        network,
        state={"bank": empty_bank(config["logit_columns"], 4, config["hidden"], torch.device("cpu"))},
    )
    truth = [one.targets for one in step.targets]
    names = tuple(f"image{index}" for index in range(len(truth)))
    batch = MaskBatch(torch.empty(0), truth, (), names, torch.zeros(len(names), dtype=torch.bool))
    terms = method.losses(context, batch, step.new, step.old, SimCISTargets(step.targets, step.targets))
    assert draws.remaining == []
    stored = {
        stage: arrays[f"loss.{name}"]
        for stage, name in (("selection_distillation", "interm_kl_loss"), ("decoder_distillation", "kl_loss"))
        if f"loss.{name}" in arrays and stage in terms
    }
    for term, value in stored.items():
        assert_close(terms[term], config["loss_weights"]["kl"] * value, GROUP, "float64", term)
    for term, key in (
        ("classification", "ce"),
        ("mask", "mask"),
        ("dice", "dice"),
        ("box", "bbox"),
        ("overlap", "giou"),
    ):
        names_of = [name for name in arrays if name.startswith("loss.") and f"loss_{key}" in name]
        expected = config["loss_weights"][key] * sum(float(arrays[name]) for name in names_of)
        assert_close(terms[term], expected, GROUP, "float64", term)
    total = sum(terms.values())
    assert_close(total, arrays["loss.total_weighted"], GROUP, "float64", "total")
    parameters = dict(step.decoder.named_parameters())
    leaves = {**parameters, **step.inputs}
    gradients = torch.autograd.grad(total, list(leaves.values()), retain_graph=True, allow_unused=True)
    found = dict(zip(leaves, gradients, strict=True))
    for key in (key for key in arrays if key.startswith("gradnorm.")):
        gradient = found[key.removeprefix("gradnorm.")]
        assert_close(0.0 if gradient is None else gradient.norm(), arrays[key], GROUP, "float64", key)
    for key in (key for key in arrays if key.startswith("grad.")):
        assert_close(found[key.removeprefix("grad.")], arrays[key], GROUP, "float32", key)
    kept = selection_distillation(
        step.new.distilled.selected, step.old.predictions[0].logits, config["kd_temperature_selection"]
    )
    for key in (key for key in arrays if key.startswith("grad_selection_kl.")):
        (gradient,) = torch.autograd.grad(kept, step.inputs[key.rpartition(".")[2]], retain_graph=True)
        assert_close(gradient, arrays[key], GROUP, "float32", key)
    bank = context.state["bank"]
    assert int(bank["stored"].sum()) == sum(arrays[f"storage.match{image}.query"].size for image in range(len(truth)))


@TRAINING
def test_every_stage_alone_and_what_the_bank_gets(case: Case, recorded) -> None:
    step = recorded(case)
    arrays = step.recording.arrays
    draws = RecordedDraws(step.recording, torch.float64)
    order = ["final", *(name for name in step.stages if name.startswith("aux")), "interm"]
    predictions = [step.new.predictions[step.stages[name]] for name in order]
    labels = step.new.virtual_labels
    for name, losses in zip(order, step.criterion.compare(predictions, step.targets, labels, draws), strict=True):
        for image, match in enumerate(losses.matches):
            np.testing.assert_array_equal(match.queries, arrays[f"{name}.match{image}.query"])
            np.testing.assert_array_equal(match.targets, arrays[f"{name}.match{image}.target"])
        values = {"ce": "classification", "mask": "mask", "dice": "dice", "bbox": "box", "giou": "overlap"}
        for recorded_name, mine in values.items():
            before = "interm_" if name == "interm" else ""
            after = "_" + name.removeprefix("aux") if name.startswith("aux") else ""
            key = f"loss.{before}loss_{recorded_name}{after}"
            assert_close(getattr(losses, mine), arrays[key], GROUP, "float64", key)
    vectors, classes = step.method.matched_cells(step.criterion, step.new, step.targets, draws)
    assert draws.remaining == []
    rows = []
    for image, one in enumerate(step.targets):
        query, target = (arrays[f"storage.match{image}.{what}"] for what in ("query", "target"))
        rows.append((step.new.queries[0][image, query], one.targets.labels[target]))
    torch.testing.assert_close(vectors, torch.cat([row for row, _ in rows]))
    assert torch.equal(classes, torch.cat([label for _, label in rows]))


# -------------------------------------------------------------------------------------------------- pseudo targets, readings


READINGS = pytest.mark.parametrize("case", cases_holding(GROUP, "semantic0.map"))


@READINGS
def test_pseudo_targets(case: Case) -> None:
    recording = load(case)
    config, arrays = recording.config, recording.arrays
    size = tuple(config["image"])
    truths = boxed_targets(recording, "target")
    for kind in ("panoptic", "semantic"):
        threshold = config[f"psd_label_threshold_{kind}"]
        old_images = certain_predictions(
            recording.tensor("pred_logits"),
            recording.tensor("pred_masks"),
            size,
            threshold,
            config["old_classes"],
            sharpen=kind == "panoptic",
        )
        for image, truth in enumerate(truths):
            old = old_images[image]
            np.testing.assert_array_equal(old.labels, arrays[f"{kind}.candidate{image}.labels"])
            assert_close(old.scores, arrays[f"{kind}.candidate{image}.scores"], GROUP, "float32")
            pseudo = pseudo_targets([old], [truth.masks], config["psd_overlap_threshold"])
            (found,) = united(pseudo) if kind == "semantic" else pseudo
            name = f"{kind}.pseudo{image}"
            np.testing.assert_array_equal(found.labels, arrays[f"{name}.labels"])
            np.testing.assert_array_equal(found.masks, unpack_bits(arrays[f"{name}.masks"], found.masks.shape))
            assert_close(mask_boxes(found.masks), arrays[f"{name}.boxes"], GROUP, "float32")


@READINGS
def test_readings(case: Case) -> None:
    recording = load(case)
    config, arrays = recording.config, recording.arrays
    method = SimCIS(
        object_threshold=config["object_mask_threshold"],
        overlap_threshold=config["overlap_threshold"],
        max_detections=config["instance_topk"],
    )
    logits, size = recording.tensor("pred_logits"), tuple(config["image"])
    columns, known = logits.shape[-1], config["old_classes"] + len(config["current_ids"])
    masks = torch.nn.functional.interpolate(recording.tensor("pred_masks"), size=size, mode="bilinear").sigmoid()
    things = torch.zeros(columns, dtype=torch.bool)
    things[config["thing_ids"]] = True
    for image in range(len(logits)):
        ids, segments = method.panoptic(logits[image], masks[image], things)
        np.testing.assert_array_equal(ids.numpy(), arrays[f"panoptic{image}.map"])
        rows = np.array([(s.id, s.category, s.isthing) for s in segments]).reshape(-1, 3)
        np.testing.assert_array_equal(rows, arrays[f"panoptic{image}.segments"])
        labels = method.semantic(logits[image], masks[image], known=known)
        expected = arrays[f"semantic{image}.map"]
        shown = np.where(expected < known, expected + 1, 0)  # the recording counts from 0 and has no class last
        np.testing.assert_array_equal(labels.numpy(), shown)
        found = method.instances(logits[image], masks[image], things)
        assert_close(found.scores, arrays[f"instance{image}.scores"], GROUP, "float32")
        sure = found.scores > 0  # the order of those without a pixel is arbitrary
        np.testing.assert_array_equal(found.classes[sure], arrays[f"instance{image}.classes"][sure.numpy()])
        areas = found.masks.flatten(1).sum(dim=1)
        np.testing.assert_array_equal(areas[sure], arrays[f"instance{image}.areas"][sure.numpy()])


@pytest.mark.parametrize("case", cases_holding(GROUP, "proposals.boxes"))
def test_proposals(case: Case) -> None:
    recording = load(case)
    boxes, valid = proposals([tuple(shape) for shape in recording.config["proposal_levels_stride_32_16_8"]])
    np.testing.assert_array_equal(valid, recording.arrays["proposals.valid"].astype(bool))
    assert_close(boxes.sigmoid(), recording.arrays["proposals.boxes"], GROUP, "float32")


@pytest.mark.parametrize("path", key_lists("simcis_*.txt"))
def test_names_and_shapes_of_released_checkpoints(path: Path) -> None:
    expected = {key: shape for key, (shape, _) in read_keys(path).items() if not key.startswith("criterion.")}
    columns = expected["sem_seg_head.predictor.class_embed.weight"][0]
    deep = any(key.startswith("backbone.res4.22.") for key in expected)
    norm = "bn" if any(key.endswith("num_batches_tracked") for key in expected) else "frozen-bn"
    with torch.device("meta"):
        network = build_simcis([columns], classes=columns, backbone="resnet101" if deep else "resnet50", norm=norm)
    assert {key: tuple(value.shape) for key, value in network.state_dict().items()} == expected
