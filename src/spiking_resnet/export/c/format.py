"""The format `c` of the command `export`."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from spiking_resnet.export.c.source import CSource, to_c
from spiking_resnet.export.format import Asked, Format
from spiking_resnet.export.integer import to_integers
from spiking_resnet.graph import Graph
from spiking_resnet.records import InputError


def code_bytes(made: CSource) -> int | None:
    """The bytes of code and tables of a program that `cc -Os` compiles; None without compiler."""
    if shutil.which("cc") is None or shutil.which("size") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        compiled = Path(folder) / "network.o"
        command = ["cc", "-std=c99", "-Os", "-c", str(made.source), "-o", str(compiled)]
        subprocess.run(command, check=True, capture_output=True)
        told = subprocess.run(["size", compiled], check=True, capture_output=True, text=True)
    text, data = (int(word) for word in told.stdout.splitlines()[1].split()[:2])
    return text + data - made.weights - made.parameters


def _write(graph: Graph, path: Path, asked: Asked) -> tuple[str, ...]:
    if path.suffix != ".c":
        raise InputError(f"{path} is no name of a C file: end it in .c")
    if "integer_form" in graph.notes and asked.given:
        raise InputError(
            f"the network is in integer form already: leave {asked.given[0]!r} out, or export the "
            "one it was made of"
        )
    if "integer_form" not in graph.notes:
        graph = to_integers(
            graph,
            8 if asked.bits is None else asked.bits,
            not asked.per_layer,
            potential_bits=32 if asked.potential_bits is None else asked.potential_bits,
        )
    made = to_c(graph, path, re.sub(r"\W|^(?=\d)", "_", path.stem, flags=re.ASCII))
    code = code_bytes(made)
    return (
        f"{made.header} declares {made.name}_init, {made.name}_set_image, {made.name}_step and "
        "what reads out",
        f"{made.weights:,} bytes of weights, {made.parameters:,} of other constants, "
        f"{made.state:,} of state"
        + ("" if code is None else f", {code:,} of code and tables (cc -Os)"),
        f"pixels are int16, x * 2^{made.image_bits}; sums fit 32 bits for {made.most_steps:,} "
        "time steps",
    )


FORMAT = Format(
    name="c",
    suffix=".c",
    beside=(".h",),
    extra="",
    write=_write,
    honours=("bits", "per_layer", "potential_bits"),
    summary="a C99 file and header of the integer form, without dependencies",
)
