"""Multi-scale deformable attention: the sampling core and the layer around it."""

from __future__ import annotations

from collections.abc import Callable

import golden
import pytest
import torch
from golden import Case, assert_close, cases_holding, load
from torch import Tensor

from model.networks.mask2former.deformable import DeformableAttention
from ops.compiled import ms_deform_attn_compiled
from ops.grid_sample import ms_deform_attn_pytorch
from ops.library import IMPLEMENTATION

GROUP = "a_deform_attn"
COMPILED = pytest.mark.skipif("cpu" not in IMPLEMENTATION.devices, reason="the compiled library is not in use")
IMPLEMENTATIONS = [
    pytest.param(ms_deform_attn_pytorch, id="pytorch"),
    pytest.param(ms_deform_attn_compiled, id="compiled", marks=COMPILED),
]


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", cases_holding(GROUP, "value"))
def test_core(case: Case, precision: golden.Precision, implementation: Callable[..., Tensor]) -> None:
    recording = load(case)
    dtype, suffix = getattr(torch, precision), "_f64" if precision == "float64" else "_f32"
    names = ("value", "sampling_locations", "attention_weights")
    value, locations, weights = (recording.tensor(name, dtype).requires_grad_() for name in names)
    shapes = [(height, width) for height, width in recording.arrays["spatial_shapes"].tolist()]
    output = implementation(value, shapes, locations, weights)
    assert_close(output, recording.arrays[f"output{suffix}"], GROUP, precision, "output")
    output.backward(recording.tensor("grad_output", dtype))
    compared = 0
    for name, tensor in zip(names, (value, locations, weights), strict=True):
        gradient = recording.arrays.get(f"grad_{name}{suffix}")
        # In single precision rounding decides on which side of a pixel boundary a corner lies; its gradient jumps there.
        jumps = name == "sampling_locations" and precision == "float32" and recording.config["locations"] == "corners"
        if gradient is not None and not jumps:
            assert_close(tensor.grad, gradient, GROUP, precision, f"grad_{name}")
            compared += 1
    assert compared >= 2  # locations on pixel centres have no recorded gradient


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", cases_holding(GROUP, "query"))
def test_layer(case: Case, precision: golden.Precision) -> None:
    recording = load(case)
    config, dtype = recording.config, getattr(torch, precision)
    layer = DeformableAttention(config["d_model"], config["levels"], config["heads"], config["points"])
    assert_close(layer.sampling_offsets.bias, recording.arrays["init_sampling_offsets_bias"], GROUP, "float32", "init")
    layer.to(dtype).load_state_dict({name: recording.tensor(f"param.{name}") for name in layer.state_dict()})
    query = recording.tensor("query", dtype).requires_grad_()
    memory = recording.tensor("input_flatten", dtype).requires_grad_()
    padded = recording.tensor("padding_mask", torch.bool) if config["padding_mask"] else None
    shapes = [(height, width) for height, width in recording.arrays["spatial_shapes"].tolist()]
    output = layer(query, recording.tensor("reference_points", dtype), memory, shapes, padded)
    assert_close(output, recording.arrays["output"], GROUP, precision, "output")
    output.backward(recording.tensor("grad_output", dtype))
    assert_close(query.grad, recording.arrays["grad_query"], GROUP, precision, "grad_query")
    assert_close(memory.grad, recording.arrays["grad_input_flatten"], GROUP, precision, "grad_input_flatten")
    for name, parameter in layer.named_parameters():
        assert_close(parameter.grad, recording.arrays[f"grad_param.{name}"], GROUP, precision, name)
