"""Which labels a job's batches show: the step's, the exemplars', and the class that leaks."""

import json

import pytest
import torch

from model.data.prepared.dataset import PreparedDataset
from model.data.sources.prepare import prepare
from model.methods.registry import build
from model.scenario import Step
from model.training.inputs import StepImages
from model.training.mask_batches import MaskBatchesError, leaked_class, mask_batches
from model.training.spec import SpecError, TrainingSpec, parse_spec


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder = tmp_path_factory.mktemp("shapes")
    prepare("shapes", {"train_images": 24, "val_images": 1, "stuff": 3, "things": 3}, folder, name="shapes")
    return PreparedDataset.open(folder)


def job(
    task: str = "semantic", past: tuple[int, ...] = (0, 1), current: tuple[int, ...] = (2, 3), **recipe
) -> TrainingSpec:
    spec = {
        "dataset": "shapes",
        "task": task,
        "setting": "overlapped",
        "seed": 0,
        "step": {"index": 1 if past else 0, "past": past, "current": current},
        "method": {"name": "balconpas-r"},
        "recipe": {
            "family": "mask",
            "network": {"name": "mask2former"},
            "transform": {"name": "fixed-square", "size": 64},
            "optimiser": {"name": "adamw", "learning_rate": 1e-3},
            "iterations": 1,
            "batch_size": 4,
            **recipe,
        },
    }
    return parse_spec(json.dumps(spec))


def shown(spec: TrainingSpec, shapes: PreparedDataset) -> dict[bool, set[int]]:
    """Labels of the step's own images (False) and of the exemplars (True)."""
    names = [record.id for record in shapes.records("train")]
    images = StepImages("train", tuple(names[:16]), spec.step.current, tuple(names[12:]), ((0,),) * 8 + ((0, 1),) * 4)
    found: dict[bool, set[int]] = {False: set(), True: set()}
    loader = mask_batches(spec, shapes, images, build("balconpas-r", {}, "mask"), 0, torch.device("cpu"))
    for batch in loader.batches(0, 14):
        for targets, from_memory in zip(batch.labels, batch.from_memory.tolist(), strict=True):
            found[from_memory].update(targets.labels.tolist())
    return found


@pytest.mark.parametrize("task", ["semantic", "panoptic"])
def test_the_step_shows_its_classes_and_exemplars_theirs(shapes: PreparedDataset, task: str) -> None:
    assert shown(job(task), shapes) == {False: {2, 3}, True: {0, 1}}


def test_the_class_that_leaks_has_the_label_of_no_object(shapes: PreparedDataset) -> None:
    assert shown(job(leak_next_class=True), shapes) == {False: {2, 3, 4}, True: {0, 1}}
    last = job(current=(2, 3, 4, 5), leak_next_class=True)
    assert shown(last, shapes)[False] == {2, 3, 4, 5}


def test_batches_say_whether_a_class_leaks(shapes: PreparedDataset) -> None:
    names = tuple(record.id for record in shapes.records("train"))
    for current, leaks in (((0, 1), True), (tuple(range(6)), False)):  # the base step too, but not the last one
        spec = job(past=(), current=current, leak_next_class=True)
        images = StepImages("train", names, current, (), ())
        method = build("balconpas", {}, "mask")
        batch = next(mask_batches(spec, shapes, images, method, 0, torch.device("cpu")).batches(0, 1))
        assert batch.leaked is leaks and batch.to("cpu").leaked is leaks


def test_labels_are_positions_in_the_learning_order(shapes: PreparedDataset) -> None:
    assert shown(job("panoptic", past=(1, 0), current=(5, 2)), shapes)[False] == {2, 3}


def test_the_leak_is_defined_for_the_natural_order() -> None:
    assert leaked_class((4, 7, 9), Step(0, (), (4, 7))) == {9: 2}
    assert leaked_class((4, 7, 9), Step(1, (4, 7), (9,))) == {}
    with pytest.raises(MaskBatchesError, match="natural order"):
        leaked_class((4, 7, 9), Step(0, (), (7, 4)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "panoptic", "leak_next_class": True}, "semantic labels"),
        ({"void_in_training": "background"}, "per-pixel networks"),
        ({"family": "per-pixel", "leak_next_class": True}, "mask networks"),
        (
            {"family": "per-pixel", "optimiser": {"name": "adamw", "learning_rate": 1e-3, "backbone_factor": 0.1}},
            "backbone_factor is for mask networks",
        ),
        ({"optimiser": {"name": "adamw", "learning_rate": 1e-3, "backbone_factor": -1}}, "backbone_factor"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        job(**options)


def test_the_factor_of_the_backbone_reaches_the_optimiser() -> None:
    from model.methods.mask.base import parameter_groups
    from model.networks.registry import build as build_network
    from model.training.optimiser import build_optimiser

    small = {"backbone": "tiny", "norm": "bn", "channels": 32, "queries": 4, "encoder_layers": 1, "decoder_layers": 1}
    network = build_network("mask2former", [2], small)
    optimiser = build_optimiser(
        "adamw", parameter_groups(network), learning_rate=0.1, weight_decay=0.5, backbone_factor=0.25
    )
    rates = {id(p): group["initial_lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in network.named_parameters():
        assert rates[id(parameter)] == pytest.approx(0.025 if name.startswith("backbone.") else 0.1), name
