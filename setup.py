"""Build of the compiled operators. Everything else about the package is in pyproject.toml.

    python setup.py build_ext --inplace        build the library next to ops/library.py
    SEGUE_OPS=pytorch ...                      run without it

An installation never fails for want of a compiler: what went wrong is said once here, and again when the operators are
imported, which then run in PyTorch. The library uses only PyTorch's stable interface, so that one file serves every
Python and every torch from 2.10 on. CUDA kernels are added when torch was built with CUDA, a toolkit is found, and there is
a reason to: a card is visible, ``TORCH_CUDA_ARCH_LIST`` is set, or ``SEGUE_BUILD=cuda`` asks for them (on a machine without
a card, for one elsewhere). ``SEGUE_BUILD=cpu`` leaves them out, ``SEGUE_BUILD=required`` turns a failed build into an error.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = Path("ops/csrc")
CUDA_ARCHITECTURES = "7.5;8.0;8.6;8.9;9.0+PTX"
STABLE_INTERFACE = "-DTORCH_TARGET_VERSION=0x020a000000000000"  # torch 2.10
# gcc warns about its own header for AVX-512.
CXX_FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-Wno-maybe-uninitialized"]
MODULE = "ops._compiled"


def cuda_home() -> str | None:
    """The root of a CUDA toolkit that torch can build with.

    ``CUDA_HOME`` where it is set. Otherwise torch's own guess is checked, because an nvcc on the path may be a script
    that only calls the real one: a root without the runtime library could not link.
    """
    from torch.utils import cpp_extension

    guesses = [os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH"), cpp_extension.CUDA_HOME]
    roots = [Path(guess) for guess in guesses if guess]
    roots += sorted(Path("/usr/local").glob("cuda-*"), reverse=True)
    for root in roots:
        libraries = [root / folder / "libcudart.so" for folder in ("lib64", "lib")]
        if (root / "bin" / "nvcc").exists() and any(library.exists() for library in libraries):
            return str(root)
    return None


def make_extension() -> Extension:
    """The library's sources and flags, with CUDA where it can be built.

    Raises:
        ImportError: where torch is not installed, or older than its stable interface.
    """
    import torch
    from torch.utils import cpp_extension

    asked = os.environ.get("SEGUE_BUILD")
    wanted = asked == "cuda" or "TORCH_CUDA_ARCH_LIST" in os.environ or torch.cuda.is_available()
    home = cuda_home() if torch.version.cuda and wanted and asked != "cpu" else None
    sources = sorted(SOURCES.rglob("*.cpp"))
    compile_flags = {"cxx": [*CXX_FLAGS, STABLE_INTERFACE]}
    kind = cpp_extension.CppExtension
    if home:
        os.environ.setdefault("TORCH_CUDA_ARCH_LIST", CUDA_ARCHITECTURES)
        cpp_extension.CUDA_HOME = home
        kind = cpp_extension.CUDAExtension
        sources += sorted(SOURCES.rglob("*.cu"))
        compile_flags["nvcc"] = ["-std=c++17", "-O3", "-DUSE_CUDA", STABLE_INTERFACE]
    return kind(
        MODULE,
        [str(source) for source in sources],
        extra_compile_args=compile_flags,
        py_limited_api=True,
    )


def report(error: BaseException) -> None:
    """Say why there is no library, or raise if one is required."""
    if os.environ.get("SEGUE_BUILD") == "required":
        raise error
    print(
        f"warning: the compiled operators were not built ({type(error).__name__}: {error}). They will run in PyTorch, "
        "many times slower. With torch >= 2.10 and a C++17 compiler installed, "
        "`python setup.py build_ext --inplace` builds them.",
        file=sys.stderr,
    )


def tolerant(builder: type[build_ext]) -> type[build_ext]:
    """The same builder, for which a failed build is a warning."""

    class TolerantBuild(builder):  # type: ignore[misc, valid-type, unused-ignore]
        extensions: list[Extension]

        def run(self) -> None:
            try:
                super().run()
            except (Exception, SystemExit) as error:
                report(error)
                self.extensions = []

    return TolerantBuild


def build_options() -> dict[str, Any]:
    """What setuptools is to build, and with what; nothing where there is no torch to build against."""
    try:
        from torch.utils.cpp_extension import BuildExtension

        if sys.platform == "win32":
            raise OSError("the kernels need a compiler with vector extensions: gcc or clang")
        builder = BuildExtension.with_options(use_ninja=shutil.which("ninja") is not None)
        return {"ext_modules": [make_extension()], "cmdclass": {"build_ext": tolerant(builder)}}
    except (ImportError, OSError) as error:
        report(error)
        return {}


if __name__ == "__main__":
    setup(**build_options())
