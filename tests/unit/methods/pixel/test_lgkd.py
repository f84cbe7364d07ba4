"""LGKD on its two hosts: what it adds to them, and which labels it sees."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from contexts import step_context
from torch import Tensor

from model.data.loading.pixel_batch import PixelBatch
from model.methods.pixel.base import PixelMethod
from model.methods.registry import build
from model.networks.deeplabv3.network import DeepLabV3
from model.scenario import Step

INCREMENT = Step(1, (11, 12, 13), (14, 15))
HOSTS = {"lgkd": "plop", "lgkd-mib": "mib"}


def terms_of(name: str, labels: Tensor, **hyper_parameters: Any) -> dict[str, Tensor]:
    torch.manual_seed(0)
    old_model = DeepLabV3((3,), backbone="tiny", channels=8, rates=(1, 2, 3), keep_stages=True)
    method: PixelMethod = build(name, hyper_parameters)  # type: ignore[assignment]
    network = deepcopy(old_model)
    method.grow(network, INCREMENT)
    batch = PixelBatch(torch.randn(2, 3, 64, 64), labels, ("a", "b"), torch.zeros(2, dtype=torch.bool))
    state = {"thresholds": torch.full((6,), 0.5)}
    context = step_context(INCREMENT, network, old_model=old_model, state=state)
    with torch.no_grad():
        old_outputs = old_model.eval()(batch.images)
    outputs = method.forward(context, batch, old_outputs)
    return method.losses(context, batch, outputs, old_outputs, method.targets(context, batch, old_outputs))


def labels_of(*values: int) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    coarse = torch.tensor(values)[torch.randint(0, len(values), (2, 4, 4), generator=generator)]
    return coarse.repeat_interleave(16, 1).repeat_interleave(16, 2)


@pytest.mark.parametrize("name", HOSTS)
def test_the_host_keeps_its_losses_except_the_distillation_of_mib(name: str) -> None:
    labels = labels_of(0, 4, 5)
    host, guided = terms_of(HOSTS[name], labels), terms_of(name, labels)
    kept = {"classification"} if name == "lgkd-mib" else set(host)
    assert set(guided) == kept | {"label_guided"}
    for term in kept:
        # MiB computes its two losses together: the last digit may differ.
        torch.testing.assert_close(guided[term], host[term])


@pytest.mark.parametrize("name", HOSTS)
def test_weights_follow_the_labels(name: str) -> None:
    new, old = labels_of(4, 5), labels_of(0, 1)
    weights = {"previous_weight": 0.0, "novel_weight": 2.0}
    assert terms_of(name, old, **weights)["label_guided"] == 0
    assert terms_of(name, new, **weights)["label_guided"] > 0
    weights = {"previous_weight": 2.0, "novel_weight": 0.0}
    assert terms_of(name, new, **weights)["label_guided"] == 0
    once = terms_of(name, old, **weights)["label_guided"]
    twice = terms_of(name, old, **weights, distillation_weight=2.0)["label_guided"]
    torch.testing.assert_close(twice, 2 * once)


def test_only_the_first_pixel_of_a_cell_is_seen() -> None:
    """The tiny backbone has a stride of 16."""
    labels = labels_of(0, 4)
    elsewhere = labels.clone()
    elsewhere[:, 1:16, 1:16] = 5
    first = labels.clone()
    first[:, 0, 0] = 5
    values = [terms_of("lgkd-mib", y)["label_guided"] for y in (labels, elsewhere, first)]
    assert torch.equal(values[0], values[1]) and not torch.equal(values[0], values[2])
