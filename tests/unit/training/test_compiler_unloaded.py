"""Loading torch's compiler takes a second and more, and a training that compiles nothing does without it."""

import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[3]
STEP = """
import sys
import torch
import model.evaluation.job
import model.training.job
from model.data.loading.mask_batch import MaskTargets
from model.losses.point_sampling import uniform_points
from model.losses.query_classification import query_cross_entropy
from model.methods.base import ParameterGroup
from model.networks.registry import build
from model.training.optimiser import build_optimiser
from model.training.seeds import configure_numerics

configure_numerics(torch.device("cpu"))
images = torch.randn(2, 3, 64, 64)
if {family!r} == "mask":
    small = dict(channels=32, queries=10, encoder_layers=1, decoder_layers=1, points=64)
    network = build("mask2former", [3], dict(backbone="tiny", norm="gn", **small))
    targets = [MaskTargets(torch.tensor([0, 2]), torch.rand(2, 64, 64) < 0.3) for _ in images]
    draw = uniform_points(torch.device("cpu"))
    every = network.criterion(network(images).predictions, targets, query_cross_entropy, draw)
    loss = torch.stack([one.classification + one.mask + one.dice for one in every]).sum()
else:
    network = build("deeplabv3", [3], dict(backbone="tiny", channels=16))
    loss = network(images).logits.square().mean()
groups = [ParameterGroup(tuple(network.parameters()))]
optimiser = build_optimiser({optimiser!r}, groups, learning_rate=0.1, weight_decay=0.1)
loss.backward()
torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
optimiser.step()
optimiser.zero_grad()
optimiser.load_state_dict(optimiser.state_dict())
print("loaded", *({{"torch._dynamo", "torch._inductor", "sympy", "torchvision"}} & sys.modules.keys()))
"""


@pytest.mark.parametrize(("family", "optimiser"), [("per-pixel", "sgd"), ("mask", "adamw")])
def test_a_training_step_loads_no_compiler(family, optimiser):
    code = STEP.format(family=family, optimiser=optimiser)
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["loaded"]
