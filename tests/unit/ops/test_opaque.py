"""The closed form of the PyTorch formulation, which compiled graphs on the processor use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import ops.attention
from ops.grid_sample import ms_deform_attn_pytorch
from ops.library import Implementation
from ops.opaque import closed_backward, closed_forward

sys.path.insert(0, str(Path(__file__).parent))
from deform_cases import make


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_operators_keep_torch_rules(dtype: torch.dtype) -> None:
    inputs = make(dtype=dtype)
    torch.library.opcheck(closed_forward, inputs.leaves().flat_arguments())
    output = ms_deform_attn_pytorch(*inputs.arguments())
    torch.library.opcheck(closed_backward, (torch.ones_like(output), *inputs.flat_arguments()))


@pytest.mark.parametrize("sizes", [{}, {"channels": 7, "points": 1}, {"queries": 0}])
@pytest.mark.parametrize("far", [float("nan"), 1e30, 0.3])
def test_gradients_are_those_of_eager_mode(sizes: dict, far: float) -> None:
    inputs = make(dtype=torch.float64, **sizes)
    inputs.locations[:, ::2, 0] = far
    eager, closed = inputs.leaves(), inputs.leaves()
    expected = ms_deform_attn_pytorch(*eager.arguments())
    output = closed_forward(*closed.flat_arguments())
    for each in (expected, output):
        each.square().sum().backward()
    for mine, reference in zip(closed.gradients(), eager.gradients(), strict=True):
        torch.testing.assert_close(mine, reference, rtol=0, atol=1e-12)


def test_a_compiled_graph_holds_one_closed_operator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.attention, "IMPLEMENTATION", Implementation("pytorch"))
    torch._dynamo.reset()
    seen: list[str] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> torch.fx.GraphModule:
        seen.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return graph

    eager, traced = make().leaves(), make().leaves()
    expected = ms_deform_attn_pytorch(*eager.arguments())
    output = torch.compile(ops.ms_deform_attn, fullgraph=True, backend=backend)(*traced.arguments())
    assert any("segue_pytorch.ms_deform_attn" in name for name in seen)
    assert not any("grid_sample" in name for name in seen)
    assert torch.equal(output, expected)
    output.square().sum().backward()
    expected.square().sum().backward()
    for mine, reference in zip(traced.gradients(), eager.gradients(), strict=True):
        torch.testing.assert_close(mine, reference)
