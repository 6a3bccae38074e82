"""Layer by layer, many time steps at once, in plain PyTorch: on a CPU or a CUDA device.

A network is feed-forward within a time step, so the input of a layer is known for a whole window of
steps before the layer runs. Convolutions then see window x N images in one call, in channels-last
layout; only the neurons themselves go step by step, in place. Membrane potentials are carried from
window to window, so memory does not grow with the number of steps.
"""

import torch
from torch import Tensor

from spiking_resnet import neurons
from spiking_resnet.engines.plan import Plan, Result, ends_of, peak, pool_window, windows
from spiking_resnet.graph import Fire, Graph, Input, MaxPool, Node, Output, interpret

CHUNK = 64  # images x steps in one convolution: enough to be efficient, few enough for the cache

INTEGERS: tuple[type[Node], ...] = ()  # nodes whose sums are integers here


def unsupported(graph: Graph, device: torch.device | str = "cpu") -> list[str]:
    """Why this engine cannot run `graph` on `device`: it always can."""
    return []


def run(graph: Graph, plan: Plan) -> Result:
    """The simulation that `plan` asks for; snapped, the interpreter's spikes bit for bit."""
    images = plan.images.contiguous(memory_format=torch.channels_last)
    given = interpret.constant_values(graph, images)
    work = _Work(graph, plan, images, given)
    length = min(plan.window or CHUNK, max(1, CHUNK // len(images)))
    for start, stop in windows(plan.record, length, ends_of(graph)):
        work.advance(start, stop)
        if stop in plan.record:
            state = interpret.State(stop, work.memory)
            work.result.read(interpret.readout(graph, state))
    return work.result


class _Work:
    """One simulation under way: what it carries from window to window."""

    def __init__(self, graph: Graph, plan: Plan, images: Tensor, given: dict[str, Tensor]) -> None:
        self.plan, self.images, self.given = plan, images, given
        self.nodes = interpret.varying(graph, given)
        self.last = interpret.last_readers(self.nodes)
        self.once = graph.input.encoding == "once"
        self.memory: dict[str, Tensor] = {}
        self.result = Result.empty(graph, plan)

    def advance(self, start: int, stop: int) -> None:
        """Runs every layer over the steps start … stop - 1."""
        values: dict[str, Tensor] = {}  # [window, N, ...]; [1, N, ...] where constant in time
        for node in (interpret.at_step(node, self.once, start) for node in self.nodes):
            if node.name in self.given:
                value = self.given[node.name][None]
            elif isinstance(node, Input):
                frames = [interpret.present(node, self.images, t) for t in range(start, stop)]
                value = torch.stack(frames)
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
