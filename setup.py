"""Builds the CPU engine's kernels; without a C++ compiler the package installs without them."""

import sys

from setuptools import Extension, setup

NATIVE = "src/spiking_resnet/engines/native"
FLAGS = ["/O2", "/std:c++17"] if sys.platform == "win32" else ["-O3", "-std=c++17"]
EXACT = (
    [] if sys.platform == "win32" else ["-ffp-contract=off", "-pthread", "-Wno-maybe-uninitialized"]
)

setup(
    ext_modules=[
        Extension(
            "spiking_resnet.engines._cpu_kernels",
            [f"{NATIVE}/kernels.cpp"],
            depends=[
                f"{NATIVE}/{name}.h" for name in ("planes", "lookup", "walk", "scatter", "moves")
            ],
            extra_compile_args=FLAGS + ([] if sys.platform == "win32" else UNIX),
            extra_link_args=[] if sys.platform == "win32" else ["-pthread"],
            language="c++",
            optional=True,
        )
    ]
)
