"""Layer by layer, many time steps at once, in plain PyTorch: on a CPU or a CUDA device.

A network is feed-forward within a time step, so the input of a layer is known for a whole window of
steps before the layer runs. Convolutions then see window x N images in one call, in channels-last
layout; only the neurons themselves go step by step, in place. Membrane potentials are carried from
window to window, so memory does not grow with the number of steps.
"""

import torch
from torch import Tensor

from spiking_resnet import neurons
from spiking_resnet.engines.base import Engine, Prepared
from spiking_resnet.engines.plan import Plan, Result, ends_of, peak, pool_window, windows
from spiking_resnet.engines.schedule import Presented, Schedule
from spiking_resnet.graph import Fire, Graph, Input, MaxPool, Node, Output, interpret

CHUNK = 64  # images x steps in one convolution: enough to be efficient, few enough for the cache


class Layerwise(Engine):
    """Every layer over a window of steps, by PyTorch's own kernels."""

    name = "layerwise"

    def unsupported(self, graph: Graph, device: torch.device | str = "cpu") -> list[str]:
        """Nothing: it runs every graph everywhere."""
        return []

    def make(self, graph: Graph) -> Prepared:
        """The graph, its schedule, and who reads a value last."""
        return _Prepared(graph)


class _Prepared(Prepared):
    def __init__(self, graph: Graph) -> None:
        self.graph, self.schedule = graph, Schedule(graph)
        self.last = interpret.last_readers(self.schedule.nodes)
        self.ends = ends_of(graph)

    def run(self, plan: Plan) -> Result:
        """The simulation that `plan` asks for; snapped, the interpreter's spikes bit for bit."""
        work = _Work(self, plan)
        length = min(plan.window or CHUNK, max(1, CHUNK // plan.batch))
        for start, stop in windows(plan.times, length, self.ends, plan.begin):
            work.advance(start, stop)
            if stop in plan.times:
                state = interpret.State(stop, work.memory)
                work.result.read(interpret.readout(self.graph, state))
        if plan.keep_state:
            work.result.state = interpret.State(plan.times[-1], work.memory)
        return work.result


class _Work:
    """One simulation under way: what it carries from window to window."""

    def __init__(self, prepared: _Prepared, plan: Plan) -> None:
        self.plan, self.schedule, self.last = plan, prepared.schedule, prepared.last
        images = plan.images
        if not plan.frames:
            images = images.contiguous(memory_format=torch.channels_last)
        self.shown = Presented(self.schedule, plan, images)
        self.memory = plan.memory()
        self.own: set[str] = set()  # populations whose potentials are this run's to change in place
        self.result = Result.empty(prepared.graph, plan)

    def advance(self, start: int, stop: int) -> None:
        """Runs every layer over the steps start … stop - 1."""
        values: dict[str, Tensor] = {}  # [window, N, ...]; [1, N, ...] where constant in time
        given = self.shown.given(start, stop)
        for node in self.schedule.at(start):
            if node.name in given:
                value = given[node.name]
            elif isinstance(node, Input):
                value = self.shown.presented(node, start, stop)
            else:
                value = self._value(node, [values[name] for name in node.inputs], start, stop)
            values[node.name] = value
            for name in set(node.inputs) & values.keys():
                if self.last[name] == node.name:
                    del values[name]

    def _value(self, node: Node, inputs: list[Tensor], start: int, stop: int) -> Tensor:
        steps = stop - start
        if isinstance(node, Fire):
            return self._fire(node, inputs[0], start, steps)
        if isinstance(node, Output):
            self._sum_up(node, inputs[0], steps, stop)
            return inputs[0]
        if isinstance(node, MaxPool):
            pooled, memory = pool_window(node, inputs[0], self.memory.get(node.name), steps)
            if memory is not None:
                self.memory[node.name] = memory
                if node.name in self.plan.watch:  # sums between two windows: within one of them
                    reserve = steps * node.step_bound
                    self.result.note_peak(node.name, peak(node, memory) + reserve)
            return pooled
        widest = max(len(value) for value in inputs)
        flat = [value.expand(widest, *value.shape[1:]).flatten(0, 1) for value in inputs]
        value = interpret.STATELESS[type(node)](node, *flat)
        return value.unflatten(0, (widest, -1))

    def _fire(self, node: Fire, current: Tensor, start: int, steps: int) -> Tensor:
        """The spikes [window, N, ...] of a population, and its potentials brought up to date."""
        neuron = node.neuron
        if node.name not in self.memory:
            self.memory[node.name] = neurons.start(neuron, current[0])
        elif node.name not in self.own:  # a state's: the user keeps it as it is
            before = self.memory[node.name]
            self.memory[node.name] = torch.empty_like(current[0]).copy_(before)
        self.own.add(node.name)
        potential = self.memory[node.name]
        spikes = torch.empty_like(potential[None].expand(steps, *potential.shape).flatten(0, 1))
        spikes = spikes.unflatten(0, (steps, -1))  # [window, N, ...], laid out as the current is
        unit = bool((neuron.threshold == 1).all()) and bool((neuron.amplitude == 1).all())
        usual = type(neuron) is neurons.IntegrateAndFire and neuron.reset == "subtract"
        plain = unit and usual and neuron.binary
        key = interpret.emitted_by(node.name)
        none = torch.zeros((), dtype=potential.dtype, device=potential.device)
        emitted = self.memory.get(key, none)
        for t in range(steps):
            now = current[t if len(current) > 1 else 0]
            if plain:  # the same as neurons.step, in place: v += I; s = [v >= 1]; v -= s
                potential += now
                torch.ge(potential, 1, out=spikes[t])
                potential -= spikes[t]
            else:
                spikes[t], potential = neurons.step(neuron, potential, now, emitted, start + t)
                emitted = neurons.remembered(neuron, emitted, spikes[t], potential, start + t)
            if node.name in self.plan.watch:
                self.result.note_peak(node.name, peak(node, potential))
        self.memory[node.name] = potential
        if neuron.remembers:
            self.memory[key] = emitted
        self.result.count(node.name, spikes if plain else neurons.whole(neuron, spikes))
        return spikes

    def _sum_up(self, node: Output, value: Tensor, steps: int, stop: int) -> None:
        total = value.sum(0) if len(value) > 1 else value[0] * steps
        interpret.sum_up(node, self.memory, total, stop)
        if node.name in self.plan.watch:
            self.result.note_peak(node.name, peak(node, self.memory[node.name]))
