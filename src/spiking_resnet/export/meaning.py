"""What a spiking network's file means beside its numbers: the conventions that others must keep."""

from collections.abc import Iterator
from typing import Any

from spiking_resnet.graph import Fire, Graph


def meaning(graph: Graph, steps: int | None) -> dict[str, Any]:
    """Return the conventions of a network as plain data that JSON holds.

    steps: time steps T that the file is for; None for a file of one step.
    """
    image, output = graph.input, graph.output
    return {
        "steps": steps,
        "image": {
            "shape": list(image.shape),
            "encoding": image.encoding,
            "grid": image.grid,
            "normalisation": graph.notes.get("normalisation"),
        },
        "neurons": dict(_neurons(graph)),
        "readout": {
            "kind": output.readout,
            "scale": output.scale,
            "delay": output.delay,
            "classes": list(graph.notes.get("classes") or ()),
        },
        "fires": "where the potential is at least the threshold",
        "method": graph.notes.get("method"),
        "made_for": graph.made_for,
    }


def _neurons(graph: Graph) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what the neurons of every population do, by its name."""
    for node in graph.of(Fire):
        neuron = node.neuron
        yield (
            node.name,
            {
                "kind": type(neuron).__name__,
                "reset": "by subtraction" if neuron.reset == "subtract" else "to zero",
                "levels": neuron.levels,
                "signed": neuron.signed,
                "grid": node.grid,
            },
        )
