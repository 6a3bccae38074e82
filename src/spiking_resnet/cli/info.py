"""The command `info`: what is in a file of a spiking network."""

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

import spiking_resnet as sr
from spiking_resnet.cli.conversion import exactness
from spiking_resnet.cli.terminal import out, say
from spiking_resnet.report.network import render, totals

EPILOG = "Example:  spiking-resnet info snn.safetensors"


def info(snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")]) -> None:
    """Show what a file holds: nodes, neurons, thresholds, method, and how it was made."""
    graph = sr.load(snn)
    found = totals(graph)
    kinds = Counter(type(node).__name__ for node in graph.nodes)
    say(f"{snn}: {snn.stat().st_size:,} bytes")
    say(f"image {graph.input.shape}, {graph.input.encoding} input; {graph.output.shape[0]} classes")
    say(f"{found.nodes} nodes: {', '.join(f'{n} {kind}' for kind, n in kinds.most_common())}")
    say(f"{found.parameters:,} weights, gains and biases; read-out: {graph.output.readout}")
    out.print(render(graph))
    say(f"{found.neurons:,} neurons in {found.populations} populations; {exactness(graph)}")
    say(f"artificial network it came from: {'in the file' if graph.ann else 'not in the file'}")
    say("notes:")
    say(json.dumps(dict(graph.notes), indent=2))
