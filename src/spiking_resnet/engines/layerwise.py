"""Layer by layer, many time steps at once, in plain PyTorch: on a CPU or a CUDA device.

A network is feed-forward within a time step, so the input of a layer is known for a whole window of
steps before the layer runs. Convolutions then see window x N images in one call, in channels-last
layout; only the neurons themselves go step by step, in place. Membrane potentials are carried from
window to window, so memory does not grow with the number of steps.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from spiking_resnet.engines.base import Engine, Prepared
from spiking_resnet.engines.plan import (
    Plan,
    Result,
    ends_of,
    highest_sum,
    peak,
    pool_window,
    windows,
)
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


def spikes_of(graph: Graph, name: str, plan: Plan, known: Mapping[str, Tensor]) -> Tensor:
    """The spikes [T, N, ...] of a population over the steps of `plan`, from the known spikes of
    those before it, [T, N, ...].
    """
    prepared = _Prepared(graph)
    work = _Work(prepared, plan)
    found = []
    for start, stop in windows(plan.times, max(1, CHUNK // plan.batch), prepared.ends):
        given = {key: spikes[start:stop].float() for key, spikes in known.items()}
        found.append(work.advance(start, stop, given)[name])
    return torch.cat(found)


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

    def advance(
        self, start: int, stop: int, known: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Runs every layer over the steps start … stop - 1; returns the values that nobody read.

        known: the spikes [window, N, ...] of populations that are not run.
        """
        values: dict[str, Tensor] = {}  # [window, N, ...]; [1, N, ...] where constant in time
        given = {**self.shown.given(start, stop), **(known or {})}
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
        return values

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
        value = node.value(*flat)
        return value.unflatten(0, (widest, -1))

    def _fire(self, node: Fire, current: Tensor, start: int, steps: int) -> Tensor:
        """The spikes [window, N, ...] of a population, and its potentials brought up to date."""
        neuron, current = node.neuron, node.received(current)
        state = node.state(self.memory, current[0])
        if node.name in self.memory and node.name not in self.own:  # the user keeps it as it is
            state = state._replace(potential=torch.empty_like(current[0]).copy_(state.potential))
        self.own.add(node.name)
        watch = self._watch(node) if node.name in self.plan.watch else None
        spikes, state = neuron.run(state, current, steps, start, watch)
        node.keep_state(self.memory, state)
        self.result.count(node, spikes, start)
        return spikes

    def _watch(self, node: Fire) -> Callable[[Tensor], None]:
        """What follows the largest potential of a population."""
        return lambda potential: self.result.note_peak(node.name, peak(node, potential))

    def _sum_up(self, node: Output, value: Tensor, steps: int, stop: int) -> None:
        value = node.received(value)
        if node.name in self.plan.watch:
            highest = highest_sum(self.memory.get(node.name), value.expand(steps, -1, -1))
            self.result.note_peak(node.name, highest)
        total = value.sum(0) if len(value) > 1 else value[0] * steps
        node.sum_up(self.memory, total, stop)
