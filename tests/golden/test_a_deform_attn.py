"""Multi-scale deformable attention: the sampling core and the layer around it."""

from __future__ import annotations

import golden
import pytest
import torch
from golden import Case, assert_close, cases, load

from model.networks.mask2former.deformable import DeformableAttention

GROUP = "a_deform_attn"


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("case", cases(GROUP, "layer_*"))
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
