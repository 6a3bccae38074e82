"""Builds the CPU engine's kernels; without a C++ compiler the package installs without them."""

import sys
from pathlib import Path

from setuptools import Extension, setup

NATIVE = "src/spiking_resnet/engines/cpu/native"
HEADERS = sorted(str(file) for file in Path(NATIVE).glob("*.h"))
WINDOWS = sys.platform == "win32"
# -Wno-…uninitialized: GCC warns of its own intrinsics.
UNIX = ["-O3", "-std=c++17", "-pthread", "-Wno-maybe-uninitialized", "-Wno-uninitialized"]

setup(
    ext_modules=[
        Extension(
            "spiking_resnet.engines.cpu._kernels",
            [f"{NATIVE}/kernels.cpp"],
            depends=HEADERS,
            extra_compile_args=["/O2", "/std:c++17"] if WINDOWS else UNIX,
            extra_link_args=[] if WINDOWS else ["-pthread"],
            language="c++",
            optional=True,
        )
    ]
)
