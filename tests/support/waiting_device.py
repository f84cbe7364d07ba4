"""A made-up device that counts how often the host would wait for it.

A tensor "on the device" is a wrapper around a CPU tensor. It says that it lives on PyTorch's device ``meta``, so that code which
chooses a device by ``tensor.device`` works as on a real one, and mixing tensors of host and device fails as there. What would
make the host wait for a CUDA device is noted with the source line that asks for it:

* reading a value: ``item``, ``tolist``, ``float(…)``, an ``if`` on a tensor;
* a result whose size depends on values: ``nonzero``, a boolean index, ``unique``, ``bincount``, …;
* a copy between host and device that is not ``non_blocking``, or whose host side is not page-locked. What ``to("cpu",
  non_blocking=True)`` returns is page-locked, as with CUDA.

Waits inside an operation that other inputs would not cause are not seen.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.optim.optimizer as optimisers
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map

aten = torch.ops.aten
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = tuple(str(ROOT / name) + "/" for name in ("model", "ops"))


DEVICE = torch.device("meta")
HOST = torch.device("cpu")

DATA_DEPENDENT = {
    aten.nonzero.default,
    aten.masked_select.default,
    aten._unique2.default,
    aten.unique_dim.default,
    aten.unique_consecutive.default,
    aten.bincount.default,
    aten.equal.default,
    aten._local_scalar_dense.default,
}
"""Operations that wait for the values of their inputs on a CUDA device."""

INDEXING = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}
COPIES = {aten._to_copy.default, aten.copy_.default}


class DeviceTensor(Tensor):
    """A tensor on the made-up device; ``held`` is where its values are."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> DeviceTensor:
        tensor = Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
            requires_grad=False,
        )
        tensor.held = held
        return tensor

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, Waits())

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.held})"


class Waits(Counter[str]):
    """Number of waits by source line, ``model/losses/matching.py:77``."""

    def note(self, count: int = 1) -> None:
        """Count for the line of the innermost function of ours."""
        if count:
            self[_line()] += count


def _line() -> str:
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith(PACKAGES):
            return f"{Path(name).relative_to(ROOT)}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "elsewhere"


class _Constructors(TorchFunctionMode):
    """Constructors that PyTorch would hide from the counting, taken apart into what they do; and page-locking."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is Tensor.pin_memory:
            locked = args[0].clone()
            locked._page_locked = True
            return locked
        if func is Tensor.tolist and isinstance(args[0], DeviceTensor):
            return args[0].cpu().tolist()
        if func is Tensor.is_pinned:
            return _is_pinned(args[0])
        if func is Tensor.new_tensor:
            kwargs = {"dtype": args[0].dtype, "device": args[0].device, **kwargs}
            func, args = torch.tensor, args[1:]
        if func in (torch.tensor, torch.as_tensor):
            device = kwargs.pop("device", None)
            made = func(*args, **kwargs)
            return made if device is None else made.to(device)
        return func(*args, **kwargs)


class Counting(TorchDispatchMode):
    """While it is active, tensors can be made on the device, and waits are counted in ``waits``."""

    def __init__(self) -> None:
        super().__init__()
        self.waits = Waits()
        self._constructors = _Constructors()

    def __enter__(self) -> Counting:
        self._constructors.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._constructors.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, args, kwargs or {}, self.waits)


def run(func: Any, args: Any, kwargs: dict[str, Any], waits: Waits) -> Any:
    """One operation: on the wrapped tensors, with its result on the device where it belongs there."""
    tensors = [x for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)]
    on_device = [x for x in tensors if isinstance(x, DeviceTensor)]
    asked = kwargs.get("device")
    asked = None if asked is None else torch.device(asked)
    to_device = asked is not None and asked.type == DEVICE.type
    if not on_device and not to_device:
        return func(*args, **kwargs)
    if func in COPIES:
        _count_copy(func, args, kwargs, asked, waits)
    elif func in INDEXING:
        for index in args[1]:
            if index is not None:
                waits.note(index.dtype in (torch.bool, torch.uint8) or not isinstance(index, DeviceTensor))
        _refuse_mixture(func, [x for x in (args[0], *args[2:]) if isinstance(x, Tensor)])
    else:
        if func in DATA_DEPENDENT:
            waits.note()
        if func is aten.multinomial.default and (args[1] == 1 or not (len(args) > 2 and args[2])):
            waits.note(2)  # it reads whether the weights are valid
        if func is aten.repeat_interleave.Tensor and kwargs.get("output_size") is None:
            waits.note()
        _refuse_mixture(func, tensors)
    plain_args = tree_map(_held, args)
    plain_kwargs = tree_map(_held, {k: HOST if k == "device" and v is not None else v for k, v in kwargs.items()})
    plain_kwargs.pop("pin_memory", None)
    result = func(*plain_args, **plain_kwargs)
    to_host = func is aten._to_copy.default and asked is not None and not to_device
    if to_host:
        return result
    wrapped = tree_map(lambda x: DeviceTensor(x) if isinstance(x, Tensor) else x, result)
    if func is aten.copy_.default and not isinstance(args[0], DeviceTensor):
        return args[0]
    return return_and_correct_aliasing(func, args, kwargs, wrapped)


def _held(x: Any) -> Any:
    return x.held if isinstance(x, DeviceTensor) else x


def _refuse_mixture(func: Any, tensors: list[Tensor]) -> None:
    strangers = [x for x in tensors if not isinstance(x, DeviceTensor) and x.dim() > 0]
    if strangers and len(strangers) < len(tensors):
        raise RuntimeError(f"{func}: expected all tensors to be on the same device, at {_line()}")


def _is_pinned(x: Tensor) -> bool:
    return getattr(x, "_page_locked", False)


def _count_copy(func: Any, args: Any, kwargs: dict[str, Any], asked: torch.device | None, waits: Waits) -> None:
    if func is aten.copy_.default:
        target, source = args[0], args[1]
        non_blocking = args[2] if len(args) > 2 else kwargs.get("non_blocking", False)
        if isinstance(target, DeviceTensor) == isinstance(source, DeviceTensor):
            return
        host = source if isinstance(target, DeviceTensor) else target
        if host is source and source.dim() == 0:
            return  # a number: it travels as an argument of the kernel
        waits.note(not (non_blocking and _is_pinned(host)))
    else:
        source, non_blocking = args[0], kwargs.get("non_blocking", False)
        if asked is None or (asked.type == DEVICE.type) == isinstance(source, DeviceTensor):
            return
        page_locked = isinstance(source, DeviceTensor) or _is_pinned(source)
        waits.note(not (non_blocking and page_locked))


class _Autocast(torch.autocast):
    """On the made-up device there is no mixed precision."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == DEVICE.type else device_type, *args, **kwargs)


@contextmanager
def counted() -> Iterator[Counting]:
    """Count waits; mixed precision and fused optimisers accept the device meanwhile."""
    plain, supported = torch.autocast, optimisers._get_fused_kernels_supported_devices
    torch.autocast = _Autocast  # type: ignore[misc]
    optimisers._get_fused_kernels_supported_devices = lambda: [*supported(), DEVICE.type]
    try:
        with Counting() as counting:
            yield counting
    finally:
        torch.autocast = plain  # type: ignore[misc]
        optimisers._get_fused_kernels_supported_devices = supported


def onto_device(module: nn.Module) -> nn.Module:
    """The module with its parameters and buffers on the device."""
    return module._apply(lambda tensor: tensor.to(DEVICE))
