"""Simulations of one network by the compiled kernels: what they share, and one under way."""

from collections.abc import Collection, Mapping
from contextlib import nullcontext

import torch
from torch import Tensor

from spiking_resnet.engines.base import Prepared
from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.cpu.bit_code import codes
from spiking_resnet.engines.cpu.brightness import Brightness
from spiking_resnet.engines.cpu.fuse import fuse
from spiking_resnet.engines.cpu.inputs import Value, numbers_of
from spiking_resnet.engines.cpu.integers import Integers
from spiking_resnet.engines.cpu.kernels import Kernel
from spiking_resnet.engines.cpu.library import Planes
from spiking_resnet.engines.cpu.memory import Memory
from spiking_resnet.engines.cpu.moves import moved, takes_all
from spiking_resnet.engines.cpu.pools import MOST_STEPS, Pools
from spiking_resnet.engines.cpu.population import Population, State
from spiking_resnet.engines.cpu.spans import Spans
from spiking_resnet.engines.cpu.sums import Sums
from spiking_resnet.engines.plan import (
    OutOfRange,
    Plan,
    Result,
    highest_sum,
    peak,
    pool_window,
)
from spiking_resnet.engines.schedule import Presented, Schedule, last_readers
from spiking_resnet.graph import (
    AvgPool,
    Fire,
    Graph,
    Input,
    MaxPool,
    Node,
    Output,
    interpret,
)
from spiking_resnet.neurons import State as NeuronState

FEW = 2**13  # pixels (8 images of CIFAR) that are not worth waking torch's threads for


class Network(Prepared):
    """What all simulations of a graph share: its populations for the kernels, and buffers.

    It depends on nothing but the graph, and serves simulations in several threads at once. known:
    populations whose spikes every run is given (`spikes_of`).
    """

    def __init__(self, graph: Graph, known: Collection[str] = ()) -> None:
        self.graph, self.schedule = graph, Schedule(graph)
        self.fused, sums, self.done = fuse(graph, self.schedule.given)
        self.sums = {name: Sums(graph[name], fused) for name, fused in sums.items()}
        self.done |= set(known)
        self.nodes = self.at(0)
        self.later = {node.name: node for node in self.at(1)}
        self.reads = {node.name: self._reads(node) for node in self.nodes}
        self.last = last_readers(self.reads)
        self.codes = codes(graph)
        self.populations = {
            node.name: Population(node, self.fused[node.name], self.schedule.once)
            for node in graph.of(Fire)
            if node.name not in known
        }
        self.brightness = Brightness(graph, self.fused, sums)
        self.free = Memory()
        own = self.nodes, self.populations, self.sums, self.codes
        self.spans = Spans(graph, self.schedule, *own)

    def at(self, time: int) -> list[Node]:
        """The nodes that no kernel computes with another, as they compute at step `time`."""
        return [node for node in self.schedule.at(time) if node.name not in self.done]

    def _reads(self, node: Node) -> tuple[str, ...]:
        """The values a node is computed from here."""
        if isinstance(node, Fire):
            return self.fused[node.name].reads
        return self.sums[node.name].fused.reads if node.name in self.sums else node.inputs

    def run(self, plan: Plan) -> Result:
        """The simulation that `plan` asks for. Raises OutOfRange where 32 bits do not hold it."""
        if plan.times[-1] >= MOST_STEPS:
            raise OutOfRange(f"the spikes of {plan.times[-1]} steps")
        threads = torch.get_num_threads()
        pixels = plan.batch * library.positions(self.graph.input.shape)
        with library.alone() if pixels <= FEW else nullcontext():
            return self._run(plan, threads)

    def spikes_of(self, name: str, plan: Plan, known: Mapping[str, Planes]) -> Planes:
        """The spikes of a population over the steps of `plan`, from the known spikes of others."""
        work = _Work(self, plan, torch.get_num_threads())
        found = []
        for start, stop in self.spans.of(plan, joined=False):
            given = {key: planes.during(start, stop) for key, planes in known.items()}
            fired = work.advance(start, stop, given).get(name)
            found.append(
                fired if isinstance(fired, Planes) else self._silent(name, plan, start, stop)
            )
        return Planes.following(found)

    def _silent(self, name: str, plan: Plan, start: int, stop: int) -> Planes:
        size = plan.batch, stop - start, self.graph[name].shape
        return Planes.silent(Memory(), *size, self.codes[name])

    def _run(self, plan: Plan, threads: int) -> Result:
        work = _Work(self, plan, threads)
        for start, stop in self.spans.of(plan):
            work.advance(start, stop)
            if stop in plan.times:
                state = interpret.State(stop, work.readable())
                work.result.read(interpret.readout(self.graph, state))
        if plan.keep_state:
            work.result.state = work.state()
        return work.result


class _Work:
    """One simulation under way: what it carries from window to window."""

    def __init__(self, network: Network, plan: Plan, threads: int) -> None:
        self.network, self.plan, self.threads = network, plan, threads
        self.codes, self.populations = network.codes, network.populations
        self.shown = Presented(network.schedule, plan)
        self.states: dict[str, State] = {}
        self.kernels: dict[str, Kernel] = {}  # that compute sums
        self.memory = plan.memory()  # read-outs, sums and what was before the run: interpret.State
        self.free, self.pools = network.free, Pools(plan, network.free)
        self.last_window, self.time = False, 0  # time: the first step of the window
        self.brightness = network.brightness.of(plan.images) if plan.watch else 1.0
        self.result = Result.empty(network.graph, plan)

    def readable(self) -> Mapping[str, Tensor]:
        """The memory of the read-out, potentials included."""
        read = self.network.graph.output.inputs[0]
        if read not in self.populations:
            return self.memory
        return {**self.memory, read: self.populations[read].left(self.states[read]).potential}

    def state(self) -> interpret.State:
        """What the next run goes on from."""
        memory = dict(self.memory)
        for node in self.network.graph.of(Fire):
            left = self.populations[node.name].left(self.states[node.name])
            node.keep_state(memory, left)
        memory.update(self.pools.sums())
        return interpret.State(self.plan.times[-1], memory)

    def advance(
        self, start: int, stop: int, known: Mapping[str, Planes] | None = None
    ) -> dict[str, Value]:
        """Runs every layer over the steps start … stop - 1; returns the values that nobody read.

        A value that is missing among `values` is 0 throughout. known: the spikes of populations
        that are not run.
        """
        self.last_window, self.time = stop == self.plan.times[-1], start
        values: dict[str, Value] = {**(known or {})}
        if not self.network.schedule.over(start):
            values.update(self.shown.given(start, stop))
        last = self.network.last
        for node in self.network.at(start):
            if node.name in self.network.sums:
                values.update(self._sum(node, values, start, stop - start))
            else:
                value = self._value(node, values, start, stop)
                if value is not None:
                    values[node.name] = value
            for name in [name for name in values if last.get(name) == node.name]:
                held = values.pop(name)
                if not isinstance(held, Tensor) and held.buffer is not None:
                    self.free.give(held.buffer)
        return values

    def _value(
        self, node: Node, values: Mapping[str, Value], start: int, stop: int
    ) -> Value | None:
        """The value of a node over the window; None if it is 0 throughout."""
        if node.name in self.network.schedule.given:
            return values.get(node.name)
        if isinstance(node, Input):
            return self.shown.presented(node, start, stop)
        steps = stop - start
        if isinstance(node, Fire):
            return self._fire(node, values, start, steps)
        if self._quiet(node, values, start):
            return None
        inputs = [self._whole(name, values, steps) for name in node.inputs]
        if isinstance(node, Output):
            self._read_out(node, inputs[0], steps, stop)
            return None
        if isinstance(node, MaxPool):
            return self._pool(node, inputs[0], steps)
        later = self.network.later[node.name]
        if start > 0 or steps == 1 or later is node:
            return self._other(node, inputs)
        numbers = [numbers_of(value) for value in inputs]
        numbers = [each.expand(steps, *each.shape[1:]) for each in numbers]
        rest = list[Value](each[1:] for each in numbers)
        parts = self._other(node, [each[:1] for each in numbers]), self._other(later, rest)
        return torch.cat([numbers_of(part) for part in parts])

    def _quiet(self, node: Node, values: Mapping[str, Value], time: int) -> bool:
        """Whether a node without neurons is 0 throughout the window, and its memory stays."""
        if any(name in values for name in node.inputs) or isinstance(node, Output):
            return False
        if node.integrates:
            known = node.name in self.memory or node.name in self.pools.counts
            return known and node.name not in self.plan.watch
        return node.name in self.codes or self.network.schedule.over(time)

    def _whole(self, name: str, values: Mapping[str, Value], steps: int) -> Value:
        """A value of the window, those that are 0 included."""
        if name in values:
            return values[name]
        shape = self.network.graph[name].shape
        if name in self.codes:
            code = self.codes[name].within(self.time, steps)
            return Planes.silent(self.free, self.plan.batch, steps, shape, code)
        return torch.zeros((), dtype=torch.float32, device="cpu").expand(1, self.plan.batch, *shape)

    def _fire(
        self, node: Fire, values: Mapping[str, Value], start: int, steps: int
    ) -> Planes | None:
        """The spikes of a population over the window; None if there are none."""
        population = self.populations[node.name]
        arriving = {name: values[name] for name in self.network.reads[node.name] if name in values}
        watched = node.name in self.plan.watch
        read = node.name in self.network.graph.output.inputs
        keep = read or self.plan.keep_state or not self.last_window
        with library.alone():
            if node.name not in self.states:
                before = self._before(node)
                self.states[node.name] = State(self.plan.batch, self.threads, self.free, before)
            state = self.states[node.name]
            population.begin(state, start)
            if population.idle(arriving, start) and not watched:
                self._keep_silence(node, steps)
                return None
            spikes, counts, highest = population.run(
                state, arriving, start, steps, watched, keep, self.brightness
            )
        self.result.add(node.name, counts)
        if node.name in self.plan.trains:
            self.result.keep(node, spikes.unpacked())
        if node.name in self.plan.neurons:
            spikes.count_into(self.result.neurons[node.name])
        if watched:
            reserve = max(node.neuron.most_spent, node.step_bound)
            self.result.note_peak(node.name, highest + reserve)
        if spikes.count == 0 and spikes.buffer is not None:
            self.free.give(spikes.buffer)
            return None
        return spikes

    def _keep_silence(self, node: Fire, steps: int) -> None:
        """Keeps a window without spikes, where trains are wanted."""
        if node.name in self.plan.trains:
            size = (steps, self.plan.batch, *node.shape)
            self.result.keep(node, torch.zeros(size, dtype=torch.uint8, device="cpu"))

    def _sum(
        self, node: Node, values: Mapping[str, Value], start: int, steps: int
    ) -> dict[str, Integers]:
        """A signed stream over the window, and the numbers that it is rounded to, by name; nothing
        where they are 0 throughout.
        """
        sums = self.network.sums[node.name]
        arriving = {name: values[name] for name in sums.fused.reads if name in values}
        if not arriving and not sums.fused.bias_at(start).any():
            return {}
        kernel = self.kernels.get(node.name)
        with library.alone():
            found, self.kernels[node.name] = sums.run(
                *(kernel, arriving, start, (self.plan.batch, steps), self.threads, self.free),
                watched=self.brightness > 1.0,
            )
        return found

    def _before(self, node: Fire) -> NeuronState | None:
        """What a population begins the run from, if that is not its initial state."""
        before = self.memory.get(node.name)
        return None if before is None else node.state(self.memory, before)

    def _read_out(self, node: Output, value: Value, steps: int, stop: int) -> None:
        """Adds what the window brings to the read-out."""
        if node.name in self.plan.watch:
            numbers = node.received(numbers_of(value)).expand(steps, -1, -1)
            highest = highest_sum(self.memory.get(node.name), numbers)
            self.result.note_peak(node.name, highest)
        if isinstance(value, Planes) and value.code.units is None:
            size = (self.plan.batch, *value.shape)
            counts = torch.zeros(size, dtype=torch.int64, device="cpu")
            value.count_into(counts)
            total = counts.float()
        else:
            numbers = node.received(numbers_of(value))
            total = numbers.sum(0) if len(numbers) > 1 else numbers[0] * steps
        node.sum_up(self.memory, total, stop)

    def _pool(self, node: MaxPool, value: Value, steps: int) -> Value:
        """A max pool of the window."""
        if isinstance(value, Planes) and self.pools.take(node, value):
            found = self.pools.run(node, value, self.memory)
            if node.name in self.plan.watch:
                self.result.note_peak(node.name, self.pools.highest(node) + node.step_bound)
            return found
        pooled, memory = pool_window(node, numbers_of(value), self.memory.get(node.name), steps)
        if memory is not None:
            self.memory[node.name] = memory
            if node.name in self.plan.watch:  # sums between two windows: within one of them
                reserve = steps * node.step_bound
                self.result.note_peak(node.name, peak(node, memory) + reserve)
        return self._as_spikes(node, pooled)

    def _other(self, node: Node, inputs: list[Value]) -> Value:
        """The value of a node that no kernel computes."""
        planes = [value for value in inputs if isinstance(value, Planes)]
        if len(planes) == len(inputs) and node.name in self.codes:
            found = moved(node, planes, self.free)
            if found is not None:
                return found
        if isinstance(node, AvgPool) and planes and takes_all(node, planes[0]):
            sums = planes[0].code.values(planes[0].sums())
            return sums[..., None, None] / node.divisor
        numbers = [numbers_of(value) for value in inputs]
        widest = max(len(value) for value in numbers)
        flat = [value.expand(widest, *value.shape[1:]).flatten(0, 1) for value in numbers]
        value = node.value(*flat).unflatten(0, (widest, -1))
        return self._as_spikes(node, value)

    def _as_spikes(self, node: Node, value: Tensor) -> Value:
        """A node's numbers [window, N, ...] as planes, if they are spikes."""
        if node.name not in self.codes:
            return value
        code = self.codes[node.name].within(self.time, len(value))
        return Planes.packed(code.sizes(value), code, self.free)
