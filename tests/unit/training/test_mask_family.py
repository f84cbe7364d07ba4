"""The loop knows no family: it trains a network that predicts sets of masks as it trains a per-pixel one."""

from functools import partial

import pytest
import torch

from model.data.loading.mask_batch import MaskBatch, MaskTargets
from model.methods.registry import build as build_method
from model.networks.registry import build as build_network
from model.scenario import Step
from model.training.checkpoint import load_network
from model.training.optimiser import build_optimiser
from model.training.schedule import Poly
from model.training.seeds import seed_everything
from model.training.step import frozen_copy, train_step

ARGUMENTS = {
    "backbone": "tiny",
    "norm": "bn",
    "channels": 32,
    "queries": 8,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_feed_forward": 32,
    "decoder_feed_forward": 32,
}


def batch(k):
    """Two images of 32 pixels, one rectangle each whose colour is its class."""
    images, labels = torch.zeros(2, 3, 32, 32), []
    for i in range(2):
        masks = torch.zeros(1, 32, 32, dtype=torch.bool)
        masks[0, 4 + 4 * i : 20 + 4 * i, 4 + 2 * (k % 3) : 24] = True
        images[i, i, masks[0]] = 2.0
        labels.append(MaskTargets(torch.tensor([i]), masks))
    return MaskBatch(images, tuple(labels), ((32, 32),) * 2, (f"a{k}", f"b{k}"), torch.zeros(2, dtype=torch.bool))


def batches(start):
    while True:
        yield batch(start)
        start += 1


@pytest.fixture
def train(small):
    def start(network, method, step, iterations, old_model=None):
        notes = small.Notes()
        train_step(
            network=network,
            old_model=old_model,
            method=method,
            step=step,
            batches=batches,
            setting="overlapped",
            one_pass=lambda: [batch(0)],
            make_optimiser=partial(build_optimiser, "adamw", learning_rate=2e-3, weight_decay=0.05),
            schedule=Poly(iterations),
            learning_rate=2e-3,
            iterations=iterations,
            iterations_per_epoch=iterations,
            device=small.cpu,
            state={},
            seed=1,
            reporter=notes,
            clip_norm=1.0,
        )
        return notes

    return start


def test_a_mask_network_learns_and_repeats_bit_for_bit(train):
    results = []
    for _ in range(2):
        seed_everything(0)
        network = build_network("mask2former", [2], ARGUMENTS)
        notes = train(network, build_method("finetuning", family="mask"), Step(0, (), (5, 9)), 10)
        results.append((notes.seen, torch.cat([p.flatten() for p in network.parameters()]).detach()))
    seen, weights = results[0]
    assert set(seen[0][2]) == {"classification", "mask", "dice", "total"}
    assert seen[-1][2]["total"] < 0.7 * seen[0][2]["total"]
    assert results[1][0] == seen and torch.equal(results[1][1], weights)


def test_a_mask_network_grows_and_is_distilled(train, tmp_path):
    seed_everything(0)
    network = build_network("mask2former", [1], ARGUMENTS)
    old_model, step = frozen_copy(network), Step(1, (5,), (9,))
    method = build_method("balconpas", family="mask")
    method.grow(network, step)
    notes = train(network, method, step, 2, old_model)
    assert len(notes.seen[0][2]) > 4  # the terms of fine-tuning and those of the method
    again = build_network("mask2former", network.classes_per_step, ARGUMENTS)
    load_network(again, network.state_dict(), tmp_path / "checkpoint.pt")
    assert list(network.classes_per_step) == [1, 1]
