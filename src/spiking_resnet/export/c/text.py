"""The text of a C program: arrays, tables, and the code that is the same for every network."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from math import prod

from torch import Tensor

from spiking_resnet.export.c.layout import (
    Layout,
    Map,
    Moving,
    Pooling,
    Population,
    Synapses,
    Target,
)

LINE = 96  # columns of the numbers' lines


@dataclass(frozen=True)
class Types:
    """Names of C types, and the places of spikes in their common memory."""

    weight: str
    spike: str
    current: str
    potential: str
    limit: int
    places: Mapping[str, int]
    spikes: int


@dataclass(eq=False)
class Text:
    """The parts of a C file. parameters, weights: bytes of constants; state: bytes that change."""

    types: Types
    arrays: list[str] = field(default_factory=list)
    weights: int = 0
    parameters: int = 0
    known: dict[tuple[str, tuple[int, ...]], str] = field(default_factory=dict)

    def array(self, kind: str, values: Tensor | Sequence[int]) -> str:
        """The name of a constant array of these numbers; the same for the same numbers."""
        numbers = tuple(values.flatten().tolist() if isinstance(values, Tensor) else values)
        key = (kind, numbers)
        if key in self.known:
            return self.known[key]
        name = f"c{len(self.known)}"
        size = len(numbers) * BYTES[self.kind(kind)]
        if kind == "weight":
            self.weights += size
        else:
            self.parameters += size
        self.arrays.append(
            f"static const {kind} {name}[{len(numbers)}] = {{\n{_lines(numbers)}\n}};\n"
        )
        self.known[key] = name
        return name

    def kind(self, name: str) -> str:
        """The C type that a name of the file stands for."""
        own = {"weight": self.types.weight, "potential": self.types.potential}
        return own.get(name, name)


BYTES = {"int8_t": 1, "uint8_t": 1, "int16_t": 2, "int32_t": 4}


def _lines(numbers: Sequence[int]) -> str:
    """Numbers with commas, in lines."""
    lines, line = [], ""
    for number in numbers:
        word = f"{number},"
        if len(line) + len(word) > LINE:
            lines.append(line)
            line = ""
        line += word
    return "\n".join([*lines, line])


def _pair(pair: Sequence[int]) -> str:
    return f"{{{pair[0]}, {pair[1]}}}"


@dataclass(eq=False)
class Tables:
    """The tables of a layout as C text, and how much memory their state takes."""

    layout: Layout
    text: Text
    sources: list[str] = field(default_factory=list)
    populations: list[str] = field(default_factory=list)
    pools: list[str] = field(default_factory=list)
    moves: list[str] = field(default_factory=list)
    views: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    potentials: int = 0
    counts: int = 0
    constants: int = 0
    output: str = ""

    def fill(self) -> None:
        """All tables, from the operations in order and the read-out."""
        for operation in self.layout.operations:
            if isinstance(operation, Population):
                self.order.append(f"{{FIRE, {len(self.populations)}}}")
                self.populations.append(self._population(operation))
            elif isinstance(operation, Pooling):
                self.order.append(f"{{POOL, {len(self.pools)}}}")
                self.pools.append(self._pooling(operation))
            else:
                self.order.append(f"{{MOVE, {len(self.moves)}}}")
                self.moves.append(self._moving(operation))
        self.output = self._target(self.layout.output)

    def spikes(self, name: str) -> str:
        """Where the spikes of a value lie."""
        return f"spikes + {self.text.types.places[self.layout.aliases.get(name, name)]}"

    def _geometry(self, s: Synapses | Pooling) -> str:
        g = s.geometry
        around = (g.kernel, g.stride, g.padding, g.dilation)
        return ", ".join((f"{g.read[1]}, {g.read[2]}, {g.read[0]}", *map(_pair, around)))

    def _weights(self, s: Synapses) -> str:
        if s.gains is not None:
            return f"0, 0, {self.text.array('int32_t', s.gains)}"
        assert s.weights is not None
        assert s.shifts is not None
        weights, shifts = self.text.array("weight", s.weights), self.text.array("uint8_t", s.shifts)
        return f"{weights}, {shifts}, 0"

    def _target(self, target: Target) -> str:
        first, constant = len(self.sources), "0"
        for s in target.sources:
            shared = f"{self._geometry(s)}, {s.geometry.groups}, {s.outputs[0]}"
            self.sources.append(f"{{{self.spikes(s.read)}, {shared}, {self._weights(s)}}}")
        channels, rows, columns = target.shape
        if target.views:
            constant = f"constants + {self.constants}"
            self.views += [self._view(view, constant) for view in target.views]
            self.constants += prod(target.shape)
        bias = self.text.array("int32_t", target.bias)
        shape = f"{rows}, {columns}, {channels}"
        return f"{{{shape}, {bias}, {constant}, sources + {first}, {len(target.sources)}}}"

    def _view(self, s: Synapses, constant: str) -> str:
        shared = f"{self._geometry(s)}, {s.geometry.groups}"
        shape = f"{s.outputs[1]}, {s.outputs[2]}, {s.outputs[0]}"
        bias = [0] * s.outputs[0] if s.bias is None else s.bias
        array = self.text.array("int32_t", bias)
        return f"{{{constant}, {shared}, {shape}, {self._weights(s)}, {array}}}"

    def _population(self, p: Population) -> str:
        target, neurons = self._target(p.target), prod(p.target.shape)
        threshold = self.text.array("int32_t", p.threshold)
        start = self.text.array("potential", p.start)
        own = f"potentials + {self.potentials}"
        self.potentials += neurons
        fired = self._counting(neurons) if p.signed else "0"
        settings = f"{int(p.maps_start)}, {p.levels}, {int(p.resets_to_zero)}"
        memory = f"{own}, {fired}, {self.spikes(p.target.name)}"
        return f"{{{target}, {threshold}, {start}, {memory}, {settings}}}"

    def _counting(self, entries: int) -> str:
        """Where so many counters lie."""
        self.counts += entries
        return f"counts + {self.counts - entries}"

    def _pooling(self, p: Pooling) -> str:
        shape = f"{p.written[1]}, {p.written[2]}"
        sums = self._counting(prod(p.geometry.read)) if p.counting else "0"
        maxima = self._counting(prod(p.written)) if p.counting else "0"
        memory = f"{self.spikes(p.read)}, {self.spikes(p.name)}, {sums}, {maxima}"
        return f"{{{memory}, {self._geometry(p)}, {shape}, {int(p.sums)}}}"

    def _moving(self, m: Moving) -> str:
        places = [self.text.array("int16_t", each) for each in (m.rows, m.columns, m.channels)]
        sizes = f"{len(m.rows)}, {len(m.columns)}, {len(m.channels)}"
        shape = f"{m.shape[2]}, {m.shape[0]}, {m.written[0]}, {m.first}"
        memory = f"{self.spikes(m.read)}, {self.spikes(m.name)}"
        return f"{{{memory}, {sizes}, {shape}, {', '.join(places)}}}"


def most(shapes: Iterator[Map], channels: bool) -> int:
    """The most entries of a row of maps, or their most channels."""
    return max(shape[0] if channels else shape[0] * shape[2] for shape in shapes)


def template(name: str, words: Mapping[str, str]) -> str:
    """A file of the folder `templates`, with every @WORD@ replaced."""
    text = (files("spiking_resnet.export.c") / "templates" / name).read_text()
    return re.sub("@([A-Z_]+)@", lambda found: words[found[1]], text)
