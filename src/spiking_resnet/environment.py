"""What results say about the machine they were made on."""

import platform
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


def hardware() -> str:
    """The processors and the versions that results depend on, for a results table."""
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor()}{gpu}, {threads()}, torch {torch.__version__}"
