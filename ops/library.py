"""Which implementation computes the operators: the compiled library if there is one, PyTorch otherwise.

The environment variable ``SEGUE_OPS`` decides, once, when this module is imported:

    auto        the compiled library, else PyTorch with one warning that names cause and cure (the default)
    compiled    the compiled library; an error if it is missing or cannot be loaded
    pytorch     the PyTorch formulation, whatever is installed
"""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ops import compiled
from ops.errors import OperatorUnavailableError

CHOICES = ("auto", "compiled", "pytorch")
BUILD_COMMAND = "python setup.py build_ext --inplace"


@dataclass(frozen=True)
class Implementation:
    """What runs the operators.

    Attributes:
        choice: the value of ``SEGUE_OPS``.
        devices: device types that the loaded library serves; empty without a library.
        processor: instruction set that the CPU kernels use; None without a library.
        problem: why there is no library, or None.
    """

    choice: str
    devices: frozenset[str] = field(default_factory=frozenset)
    processor: str | None = None
    problem: str | None = None

    def serves(self, device_type: str) -> bool:
        """Whether the compiled kernels run on this device type; PyTorch does otherwise.

        Raises:
            OperatorUnavailableError: if ``SEGUE_OPS=compiled`` and they do not.
        """
        if device_type in self.devices:
            return True
        if self.choice == "compiled":
            raise OperatorUnavailableError(
                f"SEGUE_OPS=compiled, but the library has no kernels for {device_type}. "
                f"Rebuild it with `{BUILD_COMMAND}` where a toolkit for {device_type} is installed, or use SEGUE_OPS=auto."
            )
        return False

    def describe(self) -> str:
        """For a run's record, for example ``compiled (cpu AVX512)`` or ``pytorch``."""
        if not self.devices:
            return "pytorch"
        return f"compiled ({', '.join(f'cpu {self.processor}' if d == 'cpu' else d for d in sorted(self.devices))})"


def library_file() -> Path | None:
    """The compiled library next to this module, if it was built."""
    return next(iter(sorted(Path(__file__).parent.glob("_compiled*.so"))), None)


def choose_implementation(choice: str, file: Path | None) -> Implementation:
    """Load the library if it is wanted.

    Args:
        choice: one of :data:`CHOICES`.
        file: the compiled library, or None where it was not built.

    Raises:
        ValueError: if the choice is none of them.
        OperatorUnavailableError: if ``compiled`` is asked for and there is no library to load.
    """
    if choice not in CHOICES:
        raise ValueError(f"SEGUE_OPS={choice!r}: expected one of {', '.join(CHOICES)}")
    if choice == "pytorch":
        return Implementation(choice)
    problem = _load(file)
    if problem is None:
        compiled.register()
        return Implementation(choice, _devices(), _processor())
    if choice == "compiled":
        raise OperatorUnavailableError(f"SEGUE_OPS=compiled, but {problem}. Build it with `{BUILD_COMMAND}`.")
    warnings.warn(
        f"Multi-scale deformable attention runs in PyTorch, many times slower than compiled: {problem}. "
        f"With a C++17 compiler, `{BUILD_COMMAND}` in the project's folder builds it; SEGUE_OPS=pytorch silences this.",
        RuntimeWarning,
        stacklevel=2,
    )
    return Implementation(choice, problem=problem)


def _load(file: Path | None) -> str | None:
    """Load the library; what went wrong, or None."""
    if file is None:
        return "the compiled library was not built"
    try:
        torch.ops.load_library(str(file))
    except OSError as error:  # another platform's library, or one built for a newer torch
        return f"the compiled library {file.name} cannot be loaded ({error})"
    return None


def _devices() -> frozenset[str]:
    keys = {"cpu": "CPU", "cuda": "CUDA"}
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset(device for device, key in keys.items() if has_kernel("segue::ms_deform_attn", key))


def _processor() -> str:
    return ("plain", "AVX2", "AVX512")[torch.ops.segue.cpu_instruction_set()]


IMPLEMENTATION = choose_implementation(os.environ.get("SEGUE_OPS", "auto"), library_file())
