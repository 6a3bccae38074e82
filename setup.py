"""Builds the CPU engine's kernels: a plain C library, one for all versions of Python.

Without a C++ compiler the package installs without them, and on Windows always;
SPIKING_RESNET_KERNELS=require in the environment makes that an error.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

NATIVE = "src/spiking_resnet/engines/cpu/native"
HEADERS = sorted(str(file) for file in Path(NATIVE).glob("*.h"))
REQUIRED = os.environ.get("SPIKING_RESNET_KERNELS") == "require"
# -Wno-…uninitialized: GCC warns of its own intrinsics.
FLAGS = ["-O3", "-g0", "-std=c++17", "-pthread", "-fvisibility=hidden", "-Wno-maybe-uninitialized",
         "-Wno-uninitialized"]  # fmt: skip
KERNELS = Extension(
    "spiking_resnet.engines.cpu._kernels",
    [f"{NATIVE}/kernels.cpp"],
    depends=HEADERS,
    extra_compile_args=FLAGS,
    extra_link_args=["-pthread"],
    language="c++",
    optional=not REQUIRED,
)


class Library(build_ext):
    """Names the library without Python's version: it knows nothing of Python."""

    def get_ext_filename(self, fullname: str) -> str:
        """The file of an extension."""
        return str(Path(*fullname.split("."))) + ".so"


class Wheel(bdist_wheel):
    """A wheel for any Python 3 on this platform."""

    def get_tag(self) -> tuple[str, str, str]:
        """The tag of the wheel: versions of Python, its binary interface, platform."""
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[] if sys.platform == "win32" else [KERNELS],
    cmdclass={"build_ext": Library, "bdist_wheel": Wheel},
)
