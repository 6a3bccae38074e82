"""What every engine is asked for, and what it gives back."""

from collections.abc import Collection
from dataclasses import dataclass, field
from math import inf, isnan

import torch
from torch import Tensor

from spiking_resnet.graph import Fire, Graph, MaxPool, Node, interpret
from spiking_resnet.records import packed


class OutOfRange(Exception):
    """A simulation whose numbers an engine cannot hold; the text names them, and nothing else."""


@dataclass(frozen=True, eq=False)
class Plan:
    """One simulation.

    images: [N, C, H, W], presented at every step; or frames [T, N, C, H, W], one for each of the
    run's T steps. record: the steps to read out at, ascending, counted from the run's first; the
    last ends the run. trains: layers whose spike trains are kept. neurons: layers whose spikes are
    counted neuron by neuron. watch: integrators whose largest |sum| must be followed. window: how
    many time steps an engine may hold at once (None: as it likes). state: what the run begins from
    (None: before the first step). keep_state: whether the result has the state after the last step.
    """

    images: Tensor
    record: tuple[int, ...]
    trains: Collection[str] = ()
    neurons: Collection[str] = ()
    watch: Collection[str] = ()
    window: int | None = None
    state: interpret.State | None = None
    keep_state: bool = False

    @property
    def frames(self) -> bool:
        """Whether the images change from step to step."""
        return self.images.ndim == 5

    @property
    def batch(self) -> int:
        """N, the number of images simulated at once."""
        return self.images.shape[-4]

    @property
    def begin(self) -> int:
        """The time steps done before the run."""
        return 0 if self.state is None else self.state.time

    @property
    def times(self) -> tuple[int, ...]:
        """The time steps done, those before the run included, at every recorded step."""
        return tuple(self.begin + step for step in self.record)

    def memory(self) -> dict[str, Tensor]:
        """What the run begins from, by the names of `interpret.State`; empty at the first step."""
        return {} if self.state is None else dict(self.state.memory)


@dataclass(eq=False)
class Result:
    """What an engine found, filled in as it goes.

    logits: one [N, K] for each recorded step. counts: cumulative spikes [N] (int64) by layer, now,
    and in `recorded` at each recorded step. trains: pieces of bits, see `records.Trains`. neurons:
    cumulative spikes of single neurons [N, ...] (int64). peaks: by watched node. several: the
    populations whose neurons may fire something else than 0 or 1 spike in a step. state: after the
    last step, if the plan keeps it.
    """

    counts: dict[str, Tensor]
    trains: dict[str, list[Tensor]]
    neurons: dict[str, Tensor]
    logits: list[Tensor] = field(default_factory=list)
    recorded: dict[str, list[Tensor]] = field(default_factory=dict)
    peaks: dict[str, float] = field(default_factory=dict)
    several: frozenset[str] = frozenset()
    state: interpret.State | None = None

    @classmethod
    def empty(cls, graph: Graph, plan: Plan) -> "Result":
        """A result before the first step."""
        zero = torch.zeros(plan.batch, dtype=torch.int64, device=plan.images.device)
        return cls(
            {node.name: zero for node in graph.of(Fire)},
            {name: [] for name in plan.trains},
            {
                name: torch.zeros((plan.batch, *graph[name].shape), dtype=torch.int64, device="cpu")
                for name in plan.neurons
            },
            several=frozenset(node.name for node in graph.of(Fire) if not node.neuron.binary),
        )

    def count(self, node: Fire, spikes: Tensor, time: int) -> None:
        """Adds the spikes of one layer from step `time` on, [t, N, ...], as its neurons fire them.

        A layer's count is of all spikes; a neuron's is their sum, negative ones taken off.
        """
        name, neuron = node.name, node.neuron
        if name in self.trains:
            self.keep(node, neuron.sizes(spikes, time))
        spikes = neuron.count(spikes)
        fired = spikes.abs().double() if name in self.several else spikes
        places = tuple(range(3, spikes.ndim))
        exact = torch.float64 if name in self.several else torch.float32  # a map is below 2^24
        channels = fired.sum(places, dtype=exact) if places else fired
        self.add(name, channels.double().sum((0, 2)).long())
        if name in self.neurons:
            self.neurons[name] += spikes.sum(0, dtype=torch.float32).long().cpu()

    def add(self, name: str, counts: Tensor) -> None:
        """Adds counts [N] of spikes of one layer."""
        self.counts[name] = self.counts[name] + counts

    def keep(self, node: Fire, sizes: Tensor) -> None:
        """Keeps the sizes [t, N, ...] of one layer's spikes: as bits where they are 0 or 1."""
        if node.neuron.binary:
            self.trains[node.name].append(packed(sizes))
            return
        small = node.neuron.largest_size <= torch.iinfo(torch.int8).max
        self.trains[node.name].append(sizes.to("cpu", torch.int8 if small else torch.int32))

    def note_peak(self, name: str, value: float) -> None:
        """Keeps the largest |potential| of a watched node; one that is no number is infinite."""
        self.peaks[name] = max(self.peaks.get(name, 0.0), inf if isnan(value) else value)

    def read(self, logits: Tensor) -> None:
        """Records the logits, and the counts as they stand."""
        self.logits.append(logits)
        for name, count in self.counts.items():
            self.recorded.setdefault(name, []).append(count)


def peak(node: Node, memory: Tensor) -> float:
    """The largest |sum| an integrator can have held in the step that left `memory`.

    Before a reset by subtraction a potential was at most one threshold for each spike higher.
    """
    largest = float(memory.abs().max())
    if not isinstance(node, Fire):
        return largest
    return largest + max(node.neuron.most_spent, node.step_bound)


def highest_sum(memory: Tensor | None, numbers: Tensor) -> float:
    """The largest |sum| of a read-out while numbers [steps, N, K] are added in turn to `memory`,
    [N, K], or None where there is nothing yet.
    """
    sums = numbers.double().cumsum(0)
    return float((sums if memory is None else sums + memory).abs().max())


def windows(
    record: tuple[int, ...], length: int, ends: Collection[int] = (), begin: int = 0
) -> list[tuple[int, int]]:
    """Windows (first step, step after the last) of at most `length` that end at every record.

    ends: further steps, of those before the last record, that a window ends at (`ends_of`). begin:
    the first step of all.
    """
    found, start = [], begin
    for stop in sorted({*record, *(end for end in ends if begin < end < record[-1])}):
        while start < stop:
            end = min(start + length, stop)
            found.append((start, end))
            start = end
    return found


def ends_of(graph: Graph, joined: bool = False) -> tuple[int, ...]:
    """Steps that are in no window with the one before: what enters once is over (unless `joined`),
    a delayed read-out begins, neurons change.
    """
    turns = {turn for node in graph.of(Fire) for turn in node.neuron.turns}
    over = graph.input.encoding == "once" and not joined
    return (*turns, 1 if over else 0, graph.output.delay)


def pool_window(
    node: MaxPool, value: Tensor, before: Tensor | None, steps: int
) -> tuple[Tensor, Tensor | None]:
    """(pooled values [window, N, ...], the sums to carry on) of a max pool over a window of steps.

    value: [window, N, C, H, W], or [1, ...] where constant in time. before: the sums carried so
    far. A cumulative pool hands on the growth of the pooled sums from step to step.
    """
    if node.rule == "instant":
        return node.value(value.flatten(0, 1)).unflatten(0, (len(value), -1)), None
    value = node.received(value.expand(steps, *value.shape[1:]))
    before = torch.zeros_like(value[0]) if before is None else before
    sums = torch.cat([before[None], before + value.cumsum(0)])  # [window + 1, N, C, H, W]
    pooled = node.value(sums.flatten(0, 1)).unflatten(0, (steps + 1, -1))
    return pooled[1:] - pooled[:-1], sums[-1]
