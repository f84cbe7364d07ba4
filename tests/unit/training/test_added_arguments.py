"""Arguments of a network that only later steps have: the base step is the same without them."""

import copy
import json

import pytest
import torch

from model.config.reading import parse_config
from model.training.checkpoint import Checkpoint, CheckpointError, save_checkpoint
from model.training.job import build_method, build_networks, network_arguments
from model.training.spec import parse_spec
from model.workflow.plan import Plan

NETWORK = {
    "name": "mask2former-eclipse",
    "backbone": "tiny",
    "norm": "bn",
    "channels": 32,
    "queries": 8,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_feed_forward": 32,
    "decoder_feed_forward": 32,
}
CPU = torch.device("cpu")


def specs(prompts: int, network: dict) -> list:
    """Descriptions of the steps of a run, as the workflow hands them over."""
    recipe = {
        "family": "mask",
        "network": network,
        "optimiser": {"name": "adamw", "learning_rate": 1e-3},
        "base": {"iterations": 1},
        "increment": {"iterations": 1, "network": {"prompts": prompts}},
        "batch_size": 2,
        "transform": {"name": "fixed-square", "size": 32},
    }
    experiment = {"dataset": "toy", "task": "panoptic", "scenarios": ["2-1"], "recipe": "tiny", "methods": ["eclipse"]}
    config = {
        "schema_version": 1,
        "datasets": {"toy": {"kind": "shapes", "stuff": 2, "things": 2}},
        "recipes": {"tiny": recipe},
        "experiments": [experiment],
    }
    run = Plan(parse_config(copy.deepcopy(config))).runs[0]
    return [parse_spec(json.dumps(training.spec)) for training in run.trainings]


def build(spec, previous=None):
    return build_networks(spec, previous, build_method(spec), CPU)[0]


def save(network, spec, file):
    checkpoint = Checkpoint(
        network=network.state_dict(),
        classes=spec.step.step.seen,
        classes_per_step=tuple(network.classes_per_step),
        step=spec.step.index,
        network_arguments=network_arguments(spec.recipe),
        method_state={},
        spec=spec.model_dump(mode="json"),
    )
    save_checkpoint(file, checkpoint)
    return file


def groups_of(network):
    return sorted(tensor.shape[0] for key, tensor in network.state_dict().items() if "prompt_feat" in key)


def test_one_base_step_continues_with_any_number_of_prompts(tmp_path):
    few, many = specs(3, NETWORK), specs(5, NETWORK)
    assert few[0] == many[0]
    base = save(build(few[0]), few[0], tmp_path / "base.pt")
    assert groups_of(build(few[1], base)) == [3] and groups_of(build(many[1], base)) == [5]


def test_later_steps_keep_what_the_first_increment_added(tmp_path):
    few, many = specs(3, NETWORK), specs(5, NETWORK)
    base = save(build(few[0]), few[0], tmp_path / "base.pt")
    first = save(build(few[1], base), few[1], tmp_path / "step1.pt")
    assert groups_of(build(few[2], first)) == [3, 3]
    with pytest.raises(CheckpointError, match="its network has prompts = 3, but the recipe says 5"):
        build(many[2], first)


def test_any_other_difference_to_the_base_step_is_still_refused(tmp_path):
    base = save(build(specs(3, NETWORK)[0]), specs(3, NETWORK)[0], tmp_path / "base.pt")
    with pytest.raises(CheckpointError, match="its network has queries = 8, but the recipe says 9"):
        build(specs(3, {**NETWORK, "queries": 9})[1], base)
