"""A population of neurons with all its synapses, computed by one call of a compiled kernel."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet import neurons
from spiking_resnet.engines import kernels
from spiking_resnet.engines.code import BINARY, Code
from spiking_resnet.engines.fuse import Fused
from spiking_resnet.engines.kernels import BLOCK, Planes
from spiking_resnet.graph import Fire

WAYS = {  # by instruction set, what there is to choose from
    "avx512": ("lookup", "walk"),
    "avx2": ("triples", "scatter-avx2"),
    "portable": ("scatter-portable",),
}

# Cycles of the native kernels (see `_costs`).
LOOKUP = 1.25  # for a key, 32 positions of a channel; and so many times that in the wide form
LOOKUP_WIDE = 1.8
ADVANCE = 18  # for 32 neurons
LIST = 6  # for 32 channels at one position of a kernel
PLACE = 100  # for 64 neurons
ROW = 3  # for a spike, 64 neurons
TRIPLE = 0.85  # for a key of three channels, 16 positions of a channel
TRIPLE_ADVANCE = 30  # for 16 neurons
SCATTER = 0.4  # for a spike, a neuron
SCATTER_ADVANCE = 6  # for a neuron

Value = Planes | Tensor  # spikes; or [window, N, ...], [1, ...] where constant in time


@dataclass(eq=False)
class State:
    """A population in one simulation. way: how it is computed, chosen in the first window."""

    images: int
    threads: int
    free: kernels.Memory
    way: str = ""
    potential: Tensor | None = None
    emitted: Tensor | None = None


@dataclass(frozen=True, eq=False)
class _Made:
    """A population made ready for one way: an image's potentials at the start, in that way's order;
    its tables; its weights, one tensor for each of its synapses.
    """

    start: Tensor
    tables: Tensor
    weights: list[Tensor]


class Population:
    """A population of neurons with its synapses, ready for the kernels."""

    def __init__(self, node: Fire, fused: Fused) -> None:
        self.node, self.fused = node, fused
        self.unit = 2.0**-fused.grid
        self.made: dict[str, _Made] = {}  # by way
        self.fits: dict[str, bool] = {}  # the same: what `choose` has found

    def _make(self, call: kernels.Call, way: str) -> _Made:
        shape, synapses = self.node.shape, self.fused.synapses
        start = self._integers(
            neurons.start(self.node.neuron, torch.zeros((1, *shape), dtype=torch.float32))
        )
        start = start.view(1, shape[0], -1)
        if way in ("lookup", "triples"):  # blocks of positions
            start = F.pad(start, (0, -start.shape[-1] % BLOCK)).unflatten(-1, (-1, BLOCK))
            start = start.transpose(1, 2)
            if way == "lookup":  # even ones first
                start = start.unflatten(-1, (-1, 2)).transpose(-1, -2)
            start = start.contiguous()
        else:
            start = start.transpose(1, 2).contiguous()
        scattered = way.startswith("scatter")
        weights = [s.scattered() if scattered else s.weights for s in synapses]
        return _Made(start, call.tables(way), weights)

    def _integers(self, values: Tensor) -> Tensor:
        """Currents or potentials in units of the grid."""
        return values.mul(1 / self.unit).round_().to(torch.int32).contiguous()

    def potentials(self, state: State) -> Tensor:
        """The membrane potentials [N, C, ...]."""
        assert state.potential is not None
        found = state.potential.transpose(1, 2)
        if state.way == "lookup":
            found = found.transpose(-1, -2)
        flat = found.flatten(2)[..., : kernels.positions(self.node.shape)].float() * self.unit
        return flat.reshape(-1, *self.node.shape)

    def run(
        self, state: State, values: Mapping[str, Value], steps: int, watched: bool, keep: bool
    ) -> tuple[Planes, Tensor, float]:
        """(spikes, their number by image, largest |potential| if watched) over the window.

        keep: whether the potentials are needed afterwards.
        """
        shape, fused, images = self.node.shape, self.fused, state.images
        neuron = self.node.neuron
        own = Code(neuron.levels, neuron.signed)
        size = (kernels.blocks(kernels.positions(shape)), steps * own.planes, shape[0])
        spikes = Planes(state.free.take(images, *size), shape, code=own)
        counts = torch.zeros(images, dtype=torch.int64)
        bits = torch.zeros_like(counts)
        peaks = torch.zeros(images, dtype=torch.int64) if watched else None
        constant, current = self._currents([values[name] for name in fused.currents], steps)
        planes = [_planes(values[synapses.spikes]).coded(fused.code) for synapses in fused.synapses]
        population = kernels.Population(
            *(steps, images, *(*shape[1:], 1, 1)[:2], shape[0]),
            *(None, None, _pointer(constant), _pointer(current)),
            *(fused.bias.data_ptr(), fused.threshold.data_ptr()),
            neuron.reset == "zero",
            *(spikes.words.data_ptr(), counts.data_ptr(), _pointer(peaks)),
            *(None, fused.wide, bits.data_ptr(), fused.code.planes, fused.code.signed),
            *(neuron.levels, neuron.signed, None),
        )
        sources = [
            kernels.Source(value.words.data_ptr(), synapses.weights.data_ptr(), *synapses.geometry)
            for value, synapses in zip(planes, fused.synapses, strict=True)
        ]
        call = kernels.Call(population, sources)
        first = not state.way
        state.way = state.way or choose(call, fused, planes, self.fits)
        if state.way not in self.made:
            self.made[state.way] = self._make(call, state.way)
        made = self.made[state.way]
        if first:
            call.population.start = made.start.data_ptr()
        if first and keep:
            state.potential = torch.empty((images, *made.start.shape[1:]), dtype=torch.int32)
            state.emitted = torch.empty_like(state.potential) if neuron.signed else None
        call.population.potential = _pointer(state.potential)
        call.population.emitted = _pointer(state.emitted)
        call.population.tables = made.tables.data_ptr()
        for i, weights in enumerate(made.weights):
            call.sources[i].weights = weights.data_ptr()
        call.run(state.way, state.threads)
        spikes = Planes(spikes.words, shape, int((counts if own == BINARY else bits).sum()), own)
        return spikes, counts, 0.0 if peaks is None else float(peaks.max()) * self.unit

    def _currents(self, values: list[Value], steps: int) -> tuple[Tensor | None, Tensor | None]:
        """The current of every step [N, ...], and the one that changes [N, window, ...]."""
        numbers = [numbers_of(value) for value in values]
        constant = [value[0] for value in numbers if len(value) == 1]
        varying = [value for value in numbers if len(value) > 1]
        fixed = self._integers(sum(constant[1:], constant[0])) if constant else None
        moving = None
        if varying:
            moving = self._integers(sum(varying[1:], varying[0]).transpose(0, 1))
        return fixed, moving


def choose(call: kernels.Call, fused: Fused, sources: list[Planes], fits: dict[str, bool]) -> str:
    """The quickest way to compute a population, given the spikes that reach it.

    fits: by way, whether it takes the population; what is not there yet is found (as long a work
    as some time steps of a small image) and added.
    """
    ways = WAYS[kernels.INSTRUCTION_SETS[kernels.level()]]
    for way in ways:
        if way not in fits:
            fits[way] = way.startswith("scatter") or call.fits(way)
    fitting = [way for way in ways if fits[way]]
    if len(fitting) < 2:
        return fitting[0] if fitting else "scatter-avx2"
    if kernels.way in fitting:
        return kernels.way
    costs = _costs(call.population, fused, sources)
    return min(fitting, key=lambda way: costs[way])


def _costs(population: kernels.Population, fused: Fused, sources: list[Planes]) -> dict[str, float]:
    """Cycles per image and step: of the first two on a Zen 4 core, of the others on a Zen 3 one.

    Lookups' are the same whatever fires, the others' grow with the spikes (docs/architecture.md).
    """
    places, channels = population.height * population.width, population.channels
    sixes, threes, words, spikes, bits = 0, 0, 0, 0.0, fused.code.planes
    for synapses, planes in zip(fused.synapses, sources, strict=True):
        if not synapses.identity:
            taps, inner = synapses.weights.shape[2:].numel(), synapses.weights.shape[1]
            sixes += bits * -(-taps * inner // 6)
            threes += taps * -(-inner // 3)
            words += bits * taps * kernels.blocks(inner)
            spikes += bits * taps * planes.density() * inner
    wider = LOOKUP_WIDE if fused.wide else 1
    row = ROW * (2 if fused.wide else 1)
    triple = TRIPLE * (2 if fused.wide else 1)
    return {
        "lookup": kernels.blocks(places) * channels * (LOOKUP * sixes * wider + ADVANCE),
        "walk": places * (LIST * words + channels / 64 * (PLACE + row * spikes)),
        "triples": -(-places // 16) * channels * (triple * threes + TRIPLE_ADVANCE),
        "scatter-avx2": places * channels * (SCATTER_ADVANCE + SCATTER * spikes),
    }


def _planes(value: Value) -> Planes:
    """A value that is spikes."""
    assert isinstance(value, Planes)
    return value


def numbers_of(value: Value) -> Tensor:
    """A value as float [window, N, ...]."""
    return value.unpacked().float() if isinstance(value, Planes) else value


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()
