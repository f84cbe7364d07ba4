"""CoMFormer, MiB and PLOP on a small network whose masks are a softmax over the queries."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from contexts import step_context
from torch import Tensor

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.methods.mask.base import MaskMethod
from model.methods.mask.comformer import CoMFormer
from model.methods.mask.finetuning import MaskFinetuning
from model.methods.mask.mib import MaskMiB
from model.methods.mask.plop import MaskPLOP
from model.networks.mask2former.network import Mask2Former, build_mask2former
from model.scenario import Step

STEP = Step(1, past=(10, 11, 12), current=(13, 14))
SOFTMAX = {"mask_activation": "softmax", "class_loss": "focal", "head": "separate-no-object"}


def network(**arguments: Any) -> Mask2Former:
    torch.manual_seed(0)
    return build_mask2former(
        [3], backbone="tiny", norm="gn", channels=32, queries=8, encoder_layers=1, encoder_heads=4,
        encoder_feed_forward=32, decoder_layers=3, decoder_heads=4, decoder_feed_forward=32, points=64,
        **{**SOFTMAX, **arguments},
    )  # fmt: skip


def images(*labels: int) -> MaskBatch:
    """One image with a stripe for each label."""
    masks = torch.zeros(len(labels), 64, 64, dtype=torch.bool)
    for index in range(len(labels)):
        masks[index, 16 * index : 16 * (index + 1)] = True
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    truth = (MaskTargets(torch.tensor(labels, dtype=torch.int64), masks),)
    return MaskBatch(pixels, truth, ((64, 64),), ("image",), torch.zeros(1, dtype=torch.bool))


def grown(method: MaskMethod, old: Mask2Former) -> Mask2Former:
    new = copy.deepcopy(old)
    method.grow(new, STEP)
    return new


def terms(
    method: MaskMethod, new: Mask2Former, old: Mask2Former | None, step: Step, batch: MaskBatch
) -> dict[str, Tensor]:
    torch.manual_seed(5)
    with torch.no_grad():
        old_outputs = None if old is None else old(batch.images)
    context = step_context(step, new)
    return method.losses(context, batch, new(batch.images), old_outputs, method.targets(context, batch, old_outputs))


@pytest.mark.parametrize("method", [CoMFormer(), MaskMiB(), MaskPLOP()])
def test_the_base_step_is_that_of_fine_tuning(method: MaskMethod) -> None:
    step, batch = Step(0, (), (10, 11, 12)), images(0, 2)
    mine, base = (terms(one, network(), None, step, batch) for one in (method, MaskFinetuning()))
    assert mine.keys() == base.keys() and all(torch.equal(mine[name], base[name]) for name in base)


def test_queries_share_out_the_pixels_in_the_decoder_and_in_its_outputs() -> None:
    outputs = network()(images(0).images)
    assert outputs.mask_activation == "softmax"
    assert network(mask_activation="sigmoid")(images(0).images).mask_activation == "sigmoid"


@pytest.mark.parametrize(("method", "counted"), [(CoMFormer(), True), (MaskPLOP(), True), (MaskMiB(), False)])
def test_pseudo_targets_follow_the_ground_truth_and_leave_it_alone(method: MaskMethod, counted: bool) -> None:
    old = network(mask_activation="sigmoid").eval()
    with torch.no_grad():
        old.predictor.class_head.cls[1].bias.copy_(torch.tensor([0.0, 9.0, 0.0]))  # type: ignore[union-attr,index]
    batch = images(3, 4)
    with torch.no_grad():
        (found,) = method.targets(step_context(STEP), batch, old(batch.images))
    (truth,) = batch.labels
    assert torch.equal(found.labels[:2], truth.labels) and torch.equal(found.masks[:2], truth.masks)
    assert (len(found) > 2) == counted
    assert set(found.labels[2:].tolist()) <= {1}
    assert not (found.masks[2:] & truth.masks.any(dim=0)).any()
    assert found.masks[2:].sum(dim=0).max() <= 1 if counted else True


def test_a_query_that_still_shows_an_old_class_is_not_punished_by_mib() -> None:
    """Unmatched queries are "no object", which old classes count as: making one of them surer must cost nothing."""
    model = network()
    model.grow(2)
    logits = torch.zeros(1, 8, 6, requires_grad=True)
    nothing = torch.full((1, 8), 5)
    usual, unbiased = (
        method.class_loss(step_context(STEP, model), images())(logits, nothing)
        for method in (MaskFinetuning(), MaskMiB())
    )
    (gradient,) = torch.autograd.grad(usual, logits, retain_graph=True)
    assert (gradient[..., :3] > 0).all()
    (gradient,) = torch.autograd.grad(unbiased, logits)
    assert (gradient[..., :3] < 0).all() and (gradient[..., 3:5] > 0).all()


@pytest.mark.parametrize("method", [CoMFormer(), MaskMiB()])
def test_new_classes_may_rise_out_of_no_object(method: MaskMethod) -> None:
    """What is moved from "no object" to new classes is no deviation from the old model."""
    old = network().eval()
    new = grown(method, old).eval()
    with torch.no_grad():
        new.predictor.class_head.cls[2].weight.zero_()  # type: ignore[union-attr,index,operator]
        new.predictor.class_head.cls[2].bias.fill_(-30.0)  # type: ignore[union-attr,index,operator]
    batch = images(3)
    assert terms(method, new, old, STEP, batch)["class_distillation"].item() == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():  # half of "no object" becomes the first new class
        nothing, new_classes = (new.predictor.class_head.cls[k] for k in (0, 2))  # type: ignore[union-attr,index]
        new_classes.weight[0], new_classes.bias[0] = nothing.weight[0], nothing.bias[0] - math.log(2)
        nothing.bias -= math.log(2)
    assert terms(method, new, old, STEP, batch)["class_distillation"].item() == pytest.approx(0.0, abs=1e-4)


def test_plop_weighs_features_by_the_share_of_new_classes() -> None:
    method, old = MaskPLOP(feature_weight=1.0, scales=(1, 2)), network().eval()
    new = grown(method, old).eval()
    batch = images(3)
    assert terms(method, new, old, STEP, batch)["feature_distillation"] == 0
    with torch.no_grad():
        new.sem_seg_head.pixel_decoder.mask_features.bias.add_(0.5)  # type: ignore[operator]
    term = terms(method, new, old, STEP, batch)["feature_distillation"]
    outputs = [one(batch.images) for one in (new, old)]
    expected = math.sqrt(2 / 5) * method.distillation(*outputs)
    assert term.item() == pytest.approx(expected.item()) and term > 0


def test_all_five_maps_are_compared_by_plop() -> None:
    method, old = MaskPLOP(scales=(1, 2)), network().eval()
    outputs = old(images(3).images)
    assert sorted(outputs.features) == ["res2", "res3", "res4", "res5"]
    whole = method.distillation(outputs, old(images(3).images + 1.0))
    assert whole.requires_grad and whole > 0
