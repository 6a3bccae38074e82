"""The processor, threads and package versions that results record."""

import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def processor() -> str:
    """The name of the CPU."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def threads() -> str:
    """How many threads torch has here."""
    count = torch.get_num_threads()
    return f"{count} thread{'s' * (count != 1)}"


def package_version(name: str) -> str:
    """The version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:  # used from a source tree
        return "not installed"


def versions(*names: str) -> dict[str, str]:
    """The versions of "python", "torch", and installed packages, by name."""
    own = {"python": platform.python_version(), "torch": str(torch.__version__)}
    return {name: own.get(name) or package_version(name) for name in names}


def hardware() -> str:
    """The processors and the versions that results depend on, for a results table."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}{gpu}, {threads()}, torch {torch.__version__}"
