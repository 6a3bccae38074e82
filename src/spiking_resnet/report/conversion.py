"""The blocks of a conversion: the populations that were made, and what was fitted."""

from collections.abc import Mapping
from typing import Any

from spiking_resnet.conversion.methods import RECIPES, described
from spiking_resnet.conversion.methods.recipes import told
from spiking_resnet.evaluation.inspect import inspect_graph
from spiking_resnet.graph import Graph
from spiking_resnet.report.block import Block, Text
from spiking_resnet.report.network import exactness, populations


def blocks(graph: Graph) -> list[Block]:
    """The blocks of a network that was just converted; its notes say how well calibration went."""
    found, notes = inspect_graph(graph), graph.notes
    calibration = notes["calibration"]
    neurons, layers = found.total.neurons, len(found.populations)
    return [
        populations(found),
        *_called(notes),
        *_searched(notes),
        Text(
            f"ANN on the {calibration['images']} calibration images: "
            f"{100 * calibration['ann_accuracy']:.2f} %"
        ),
        Text(_made_for(notes)),
        Text(f"{neurons:,} neurons in {layers} populations; {exactness(found)}"),
    ]


def _called(notes: Mapping[str, Any]) -> list[Block]:
    """The method's name, and the options that are not its own."""
    name = notes.get("recipe")
    if name not in RECIPES:
        return []
    return [Text(f"method: {told(RECIPES[name], described(notes))}")]


def _searched(notes: Mapping[str, Any]) -> list[Block]:
    """Every factor of compensation that was tried."""
    trials = notes.get("compensation", {}).get("trials", ())
    if not trials:
        return []
    told = [
        f"  factor {trial['factor']:<7} agreement {100 * trial['agreement']:6.2f} %"
        f"  distance {trial['distance']:.6f}"
        for trial in trials
    ]
    heading = "compensation, on calibration images only (best: smallest distance):"
    return [Text(heading), Text("\n".join(told), "code")]


def _made_for(notes: Mapping[str, Any]) -> str:
    """The factor that was found; else the steps a network was made for, and what was fitted."""
    if searched := notes.get("compensation"):
        return f"compensation factor: {searched['factor']}"
    parts = [f"made for {notes['options']['steps']} steps"]
    if ratios := list(notes.get("ratios", {}).values()):
        low, high = min(ratios), max(ratios)
        parts.append(f"spikes shrink to {low:.2g} .. {high:.2g} of the first step's")
    if notes.get("corrected_on"):
        parts.append(f"corrected on {notes['corrected_on']} images")
    if notes.get("delay"):
        parts.append(f"the read-out leaves out {notes['delay']} steps")
    return "; ".join(parts)
