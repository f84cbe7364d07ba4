"""Parts of networks that a recipe may compile."""

import pytest
import torch
from torch import nn

from model.networks.registry import build
from model.training.job import compile_parts

NETWORKS = {
    "deeplabv3": {"backbone": "tiny", "channels": 8},
    "mask2former": {"backbone": "tiny", "norm": "bn", "channels": 32, "encoder_layers": 1, "decoder_layers": 1},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_compiled_parts_are_one_graph_each_and_change_nothing_else(name, monkeypatch):
    monkeypatch.setenv("SEGUE_OPS", "pytorch")
    torch.manual_seed(0)
    network = build(name, [2], NETWORKS[name]).eval()
    names = list(network.state_dict())
    images = torch.randn(1, 3, 64, 64)
    whole, compiled = nn.Module.compile, []

    def noted(module, **options):
        compiled.append(module)
        whole(module, backend="eager", fullgraph=True, **options)

    with torch.no_grad():
        expected = network(images).logits
        monkeypatch.setattr(nn.Module, "compile", noted)
        compile_parts(network)
        torch.testing.assert_close(network(images).logits, expected)
    parts = [network.backbone, *([network.sem_seg_head.pixel_decoder] if name == "mask2former" else [])]
    assert all(mine is part for mine, part in zip(compiled, parts, strict=True))
    assert list(network.state_dict()) == names


def test_without_an_old_model_there_is_nothing_to_compile():
    compile_parts(None)
