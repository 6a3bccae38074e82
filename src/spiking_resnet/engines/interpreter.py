"""The interpreter as an engine: step by step, every layer in turn. It fits every graph."""

import torch

from spiking_resnet.engines.base import Engine, Prepared
from spiking_resnet.engines.plan import Plan, Result, peak
from spiking_resnet.engines.schedule import Presented, Schedule
from spiking_resnet.graph import Fire, Graph, interpret


class Interpreter(Engine):
    """What `interpret` defines, carried out as it stands there."""

    name = "interpreter"

    def unsupported(self, graph: Graph, device: torch.device | str = "cpu") -> list[str]:
        """Nothing: it runs every graph everywhere."""
        return []

    def make(self, graph: Graph) -> Prepared:
        """The graph and its schedule."""
        return _Prepared(graph)


class _Prepared(Prepared):
    def __init__(self, graph: Graph) -> None:
        self.graph, self.schedule = graph, Schedule(graph)

    def run(self, plan: Plan) -> Result:
        """The simulation that `plan` asks for, as `interpret` defines it."""
        shown = Presented(self.schedule, plan)
        result, memory = Result.empty(self.graph, plan), plan.memory()
        for time in range(plan.begin, plan.times[-1]):
            given = {name: value[0] for name, value in shown.given(time, time + 1).items()}
            images = shown.frame(time)
            for node, value in interpret.walk(self.schedule.at(time), images, memory, time, given):
                if isinstance(node, Fire):
                    result.count(node, value[None], time)
                if node.name in plan.watch:
                    result.note_peak(node.name, peak(node, memory[node.name]))
            if time + 1 in plan.times:
                result.read(interpret.readout(self.graph, interpret.State(time + 1, memory)))
        if plan.keep_state:
            result.state = interpret.State(plan.times[-1], memory)
        return result
