"""Networks as ONNX files, for images of one size.

A per-pixel network gives ``logits`` (1, K, H, W); a mask network the ``class_logits`` (1, Q, K + 1) and ``mask_logits``
(1, Q, h, w) of its last layer. What is decided from them is the method's and not part of the file. Deformable attention is
written as its PyTorch formulation. The file is run once by ONNX Runtime, and kept only if it gives our own outputs.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

import ops
from model.common.files import atomic_file
from ops.grid_sample import ms_deform_attn_pytorch

TOLERANCE = 1e-4
"""How far outputs of ONNX Runtime may be from ours, relative to the largest, or absolute where that is below 1."""


class OnnxError(ValueError):
    """A network that cannot be written as ONNX; the message says why."""


class _Outputs(nn.Module):
    """Plain tensors of what a network returns."""

    def __init__(self, network: nn.Module, mask: bool) -> None:
        super().__init__()
        self.network, self.mask = network, mask

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        outputs = self.network(images)
        if self.mask:
            last = outputs.predictions[-1]
            return last.logits, last.masks
        return (outputs.logits,)


def write_onnx(
    path: Path, network: nn.Module, family: str, size: tuple[int, int], description: Mapping[str, Any]
) -> float:
    """Write a network and check the file.

    Args:
        path: to write.
        network: on the CPU; put into evaluation mode.
        family: per-pixel or mask.
        size: (height, width) of the images; multiples of 32 for mask networks.
        description: stored in the file's metadata, under ``segue``.

    Returns:
        The largest difference between the outputs of ONNX Runtime and ours.

    Raises:
        OnnxError: if a package is missing, the network has an operation that ONNX lacks, or the outputs differ.
    """
    if family == "mask" and (size[0] % 32 or size[1] % 32):
        raise OnnxError(f"--size {size[0]} {size[1]}: a mask network needs multiples of 32")
    try:
        runtime, _ = import_module("onnxruntime"), import_module("onnxscript")
    except ImportError as error:
        raise OnnxError(
            f"{error}: writing ONNX takes the packages onnx, onnxscript and onnxruntime; install them"
        ) from None
    wrapped = _Outputs(network.eval(), family == "mask")
    images = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(0))
    names = ["class_logits", "mask_logits"] if family == "mask" else ["logits"]
    with _pytorch_operator(), _silent():
        try:
            program = torch.onnx.export(
                wrapped, (images,), dynamo=True, verbose=False, input_names=["images"], output_names=names
            )
        except Exception as error:  # the exporter raises anything
            raise OnnxError(
                f"torch cannot write this network as ONNX: {_reason(error)}; export it as safetensors"
            ) from None
    assert program is not None
    model = program.model_proto
    entry = model.metadata_props.add()
    entry.key, entry.value = "segue", json.dumps(description)
    content = model.SerializeToString()
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    theirs = session.run(names, {"images": images.numpy()})
    with torch.inference_mode():
        ours = [output.numpy() for output in wrapped(images)]
    worst = max(_difference(one, other) for one, other in zip(theirs, ours, strict=True))
    if not worst <= TOLERANCE:
        raise OnnxError(
            f"ONNX Runtime gives other outputs than the network (difference {worst:.2g}); nothing was written"
        )
    with atomic_file(path) as file:
        file.write(content)
    return worst


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))


@contextlib.contextmanager
def _pytorch_operator() -> Iterator[None]:
    """Deformable attention in operations that ONNX has, instead of the compiled one."""
    before = ops.ms_deform_attn
    ops.ms_deform_attn = cast(Any, ms_deform_attn_pytorch)
    try:
        yield
    finally:
        ops.ms_deform_attn = before


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """The exporter reports its progress, which says nothing to a user."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _reason(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return " ".join((str(cause).splitlines() or [type(cause).__name__])[0].split())[:200]
