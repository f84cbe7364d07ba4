"""Networks written as ONNX give the same outputs in ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from stored_networks import micro_recipe

import ops
from model.interop import onnx_files
from model.interop.onnx_files import OnnxError, write_onnx
from model.networks import registry as networks

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")


def built(family: str, **changes: Any) -> torch.nn.Module:
    arguments = {**micro_recipe(family)["network"], **changes}
    if changes:
        del arguments["head"]  # theirs is their own
    torch.manual_seed(0)
    return networks.build(arguments.pop("name"), [3, 2], arguments).eval()


NETWORKS: list[tuple[str, dict[str, Any]]] = [
    ("per-pixel", {}),
    ("mask", {}),
    ("mask", {"name": "mask2former-eclipse"}),
    ("mask", {"name": "mask2former-simcis", "classes": 5}),
]


@pytest.mark.parametrize(("family", "changes"), NETWORKS)
def test_outputs_are_the_same(tmp_path: Path, family: str, changes: dict[str, Any]) -> None:
    network, file, operator = built(family, **changes), tmp_path / "model.onnx", ops.ms_deform_attn
    assert write_onnx(file, network, family, (64, 96), {"classes": [4, 2]}) <= 1e-4
    assert ops.ms_deform_attn is operator
    session = runtime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    found = session.run(None, {"images": images.numpy()})
    with torch.inference_mode():
        outputs = network(images)
    last = outputs.predictions[-1] if family == "mask" else None
    expected = [outputs.logits] if last is None else [last.logits, last.masks]
    names = ["logits"] if last is None else ["class_logits", "mask_logits"]
    assert [one.name for one in session.get_outputs()] == names
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-4)
    assert json.loads(session.get_modelmeta().custom_metadata_map["segue"]) == {"classes": [4, 2]}


def test_an_unsuitable_size_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OnnxError, match="multiples of 32"):
        write_onnx(tmp_path / "model.onnx", built("mask"), "mask", (60, 96), {})


def test_a_network_that_cannot_be_written_says_why(tmp_path: Path) -> None:
    class Growing(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(
        OnnxError, match=r"torch cannot write this network as ONNX: .+; export it as safetensors"
    ) as error:
        write_onnx(tmp_path / "model.onnx", Growing(), "per-pixel", (32, 32), {})
    assert "\n" not in str(error.value) and not list(tmp_path.iterdir())


def test_a_missing_package_is_one_line(tmp_path: Path) -> None:
    with (
        patch.object(onnx_files, "import_module", side_effect=ImportError("No module named 'onnxruntime'")),
        pytest.raises(OnnxError, match="takes the packages onnx, onnxscript and onnxruntime"),
    ):
        write_onnx(tmp_path / "model.onnx", built("per-pixel"), "per-pixel", (64, 64), {})
