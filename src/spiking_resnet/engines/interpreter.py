"""The interpreter as an engine: step by step, every layer in turn. It fits every graph."""

import torch
from torch import Tensor

from spiking_resnet import neurons
from spiking_resnet.engines.plan import Plan, Result, peak
from spiking_resnet.graph import Fire, Graph, Node, interpret

INTEGERS: tuple[type[Node], ...] = ()  # nodes whose sums are integers here


def unsupported(graph: Graph, device: torch.device | str = "cpu") -> list[str]:
    """Why this engine cannot run `graph` on `device`: it always can."""
    return []


def run(graph: Graph, plan: Plan) -> Result:
    """The simulation that `plan` asks for, as `interpret` defines it."""
    given = interpret.constant_values(graph, plan.images)
    nodes = interpret.varying(graph, given)
    result = Result.empty(graph, plan)
    memory: dict[str, Tensor] = {}
    for time in range(plan.record[-1]):
        for node, value in interpret.walk(nodes, plan.images, memory, time, given):
            if isinstance(node, Fire):
                result.count(node.name, neurons.whole(node.neuron, value)[None])
            if node.name in plan.watch:
                result.note_peak(node.name, peak(node, memory[node.name]))
        if time + 1 in plan.record:
            result.read(interpret.readout(graph, interpret.State(time + 1, memory)))
    return result
