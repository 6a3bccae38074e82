"""Windows of single populations, by every kernel that takes them, against their equations.

Each case draws neurons, sources and currents; planes.h and differential.h say what they mean.
"""

from dataclasses import dataclass, field, replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.bit_code import Code
from spiking_resnet.engines.cpu.kernels import LAYOUTS, Call
from spiking_resnet.engines.cpu.library import Planes, Population, Source

pytestmark = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")

IMAGES, STEPS = 2, 3  # of a window
FIRE, DIFFERENTIAL, DCGS = range(3)  # `FiringRule` of native/planes.h


@dataclass(frozen=True, eq=False)
class Input:
    """What reaches a population from one source: numbers [2 STEPS, N, C, h, w], weights by them."""

    numbers: Tensor
    weights: Tensor
    options: dict[str, object]
    identity: bool
    as_numbers: bool
    factors: Tensor | None

    def sums(self) -> Tensor:
        """What every neuron receives at every step, int64 [2 STEPS, N, C, H, W]."""
        numbers = self.numbers.double()
        if self.factors is not None:
            numbers = numbers * self.factors.double().view(-1, 1, 1, 1, 1)
        if self.identity:
            return (numbers * self.weights.double().view(-1, 1, 1)).long()
        flat = F.conv2d(numbers.flatten(0, 1), self.weights.double(), **self.options)
        return flat.unflatten(0, (-1, IMAGES)).long()

    def source(self, window: slice, code: Code) -> tuple[Source, list[object]]:
        """(what a kernel is told of a window, what must live as long)."""
        height, width, channels = (*self.numbers.shape[3:], self.numbers.shape[2])
        pairs = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), **self.options}
        kernel = (1, 1) if self.identity else self.weights.shape[2:]
        geometry = (height, width, channels, *kernel)
        for name in ("stride", "padding", "dilation"):
            geometry += pairs[name]
        groups = channels if self.identity else self.options.get("groups", 1)
        numbers = self.numbers[window]
        planes = Planes.packed(numbers.to(torch.int8), code)
        whole = numbers.permute(1, 0, 3, 4, 2).to(torch.int16).contiguous()
        factors = None if self.factors is None else self.factors[window].contiguous()
        made = Source(
            None if self.as_numbers else planes.words.data_ptr(), self.weights.data_ptr(),
            *geometry, groups, self.identity, numbers=whole.data_ptr() if self.as_numbers else None,
            factors=None if factors is None else factors.data_ptr(),
        )  # fmt: skip
        return made, [planes, whole, factors]


@dataclass(frozen=True, eq=False)
class Case:
    """A population of shape [C, H, W] with its sources; what changes in time has 2 STEPS."""

    shape: tuple[int, int, int]
    sources: list[Input]
    code: Code  # of what sources fire
    rule: int
    levels: int
    signed: bool
    bias: Tensor
    threshold: Tensor
    start: Tensor  # potentials
    constant: Tensor | None
    current: Tensor | None
    stream: Tensor | None
    reset_to_zero: bool
    sizes: int
    amplitudes: Tensor
    edges: Tensor
    ceiling: Tensor | None
    shift: int
    alone: bool  # sums, without neurons, and
    numbers_shift: int | None  # what they are rounded by to numbers, if they are
    wide: bool = True  # whether sums may need more than 16 bits


@dataclass(eq=False)
class Results:
    """What a population is found to do in two windows."""

    spikes: list[Tensor] = field(default_factory=list)
    sums: list[Tensor] = field(default_factory=list)
    numbers: list[Tensor] = field(default_factory=list)
    potential: Tensor | None = None
    emitted: Tensor | None = None
    counts: Tensor | None = None
    bits: Tensor | None = None
    peaks: Tensor | None = None


def own_code(case):
    return Code(case.levels, case.signed)


def rounded(sums, shift):
    """Sums divided by 2^shift, ties to even (torch rounds like this)."""
    return torch.round(sums.double() / 2**shift).long()


def integrate_and_fire(case, v, sent):
    threshold = case.threshold.long().view(-1, 1, 1)
    low = -sent.clamp(max=case.levels) if case.signed else torch.zeros_like(v)
    fired = torch.maximum(v.div(threshold, rounding_mode="floor"), low).clamp(max=case.levels)
    left = v - fired * threshold
    return fired, left * (fired == 0) if case.reset_to_zero else left, sent + fired


def differential(case, v, sent, time):
    amplitude, edges = int(case.amplitudes[time]), case.edges[time].tolist()
    ahead = v
    if case.ceiling is not None:
        ahead = torch.minimum(v, case.ceiling.long().view(-1, 1, 1) - sent)
    if case.rule == DIFFERENTIAL:
        ahead = torch.maximum(ahead, -sent)
    size = torch.zeros_like(v)
    for j, edge in enumerate(edges):
        allowed = (ahead > 0) | (sent >= 2**j * amplitude) | (case.rule == DIFFERENTIAL)
        size = torch.where((ahead.abs() >= edge) & allowed, 2**j, size)
    fired = size * ahead.sign()
    return fired, v - fired * amplitude, sent + fired * amplitude


def expected(case):
    """The two windows by the equations, in 64 bits."""
    found = Results()
    v = case.start.long().expand(IMAGES, *case.shape)
    sent = torch.zeros_like(v)
    total = case.bias.long().view(-1, 1, 1) + sum(each.sums() for each in case.sources)
    total = rounded(total.expand(2 * STEPS, IMAGES, *case.shape), case.shift)
    currents = (case.constant, case.current, case.stream)
    total = total + sum(each for each in currents if each is not None)
    if case.alone:
        found.sums = [total[:STEPS], total[STEPS:]]
        if case.numbers_shift is not None:
            found.numbers = [rounded(each, case.numbers_shift) for each in found.sums]
        return found
    spikes, peaks = [], torch.zeros(IMAGES, dtype=torch.int64)
    for time in range(2 * STEPS):
        v = v + total[time]
        if case.rule == FIRE:
            fired, v, sent = integrate_and_fire(case, v, sent)
        else:
            fired, v, sent = differential(case, v, sent, time)
        spikes.append(fired)
        peaks = torch.maximum(peaks, v.abs().flatten(1).max(1).values)
    trains = torch.stack(spikes)
    found.spikes = [trains[:STEPS], trains[STEPS:]]
    found.potential, found.emitted, found.peaks = v, sent, peaks
    sizes = trains.abs() if case.rule == FIRE else (trains != 0).long()
    found.counts = sizes.transpose(0, 1).flatten(1).sum(1)
    bits = [(trains >> plane & 1) for plane in range(own_code(case).planes)]
    found.bits = sum(bits).transpose(0, 1).flatten(1).sum(1)
    return found


def laid_out(numbers, layout):
    """Numbers [N, C, H, W] as int32 in a kernel's layout."""
    found = numbers.flatten(2)
    if layout != LAYOUTS[0]:
        found = F.pad(found, (0, -found.shape[-1] % 32)).unflatten(-1, (-1, 32))
    found = found.transpose(1, 2)
    if layout == LAYOUTS[2]:
        found = found.unflatten(-1, (-1, 2)).transpose(-1, -2)
    return found.to(torch.int32).contiguous()


def as_maps(numbers, layout, shape):
    """The reverse."""
    found = numbers.transpose(-1, -2).flatten(-2) if layout == LAYOUTS[2] else numbers
    found = found.transpose(1, 2).flatten(2)
    return found[..., : shape[1] * shape[2]].reshape(-1, *shape).long()


def call_of(case, window):
    """(the call of a window, tensors it points to by name, what must live as long)."""
    channels, height, width = case.shape
    blank = torch.ones((STEPS, IMAGES, *case.shape), dtype=torch.int8)
    made = {
        "bias": case.bias, "threshold": case.threshold, "ceiling": case.ceiling,
        "constant": case.constant,
        "current": None if case.current is None else case.current[window].transpose(0, 1),
        "stream": None if case.stream is None else case.stream[window].permute(1, 0, 3, 4, 2),
        "amplitudes": case.amplitudes[window], "edges": case.edges[window],
        "spikes": Planes.packed(blank, own_code(case)).words,
        "sums": torch.empty(IMAGES, STEPS, height, width, channels) if case.alone else None,
    }  # fmt: skip
    made = {k: None if v is None else v.to(torch.int32).contiguous() for k, v in made.items()}
    if case.numbers_shift is not None:
        made["numbers"] = torch.empty_like(made["sums"], dtype=torch.int16)
    pairs = [each.source(window, case.code) for each in case.sources]
    population = Population(
        STEPS, IMAGES, height, width, channels, reset_to_zero=case.reset_to_zero, wide=case.wide,
        planes=case.code.planes, minus=case.code.signed, levels=case.levels, is_signed=case.signed,
        firing_rule=case.rule, sizes=case.sizes, shift=case.shift,
        numbers_shift=case.numbers_shift or 0,
        **{k: v.data_ptr() for k, v in made.items() if v is not None},
    )  # fmt: skip
    return Call(population, [source for source, _ in pairs]), made, pairs


def found_by(kernel, case, threads):
    """The two windows as a kernel has them."""
    found = Results()
    start = laid_out(case.start[None], kernel.layout)
    potential, emitted = (
        torch.full((IMAGES, *start.shape[1:]), 77, dtype=torch.int32) for _ in "ve"
    )
    counts, bits, peaks = (torch.zeros(IMAGES, dtype=torch.int64) for _ in range(3))
    for window in (slice(STEPS), slice(STEPS, 2 * STEPS)):
        call, made, kept = call_of(case, window)
        tables = call.tables(kernel)
        population = call.population
        population.tables = tables.data_ptr()
        if not case.alone:
            population.start = start.data_ptr() if window.start is None else None
            population.potential, population.emitted = potential.data_ptr(), emitted.data_ptr()
            population.counts, population.bits = counts.data_ptr(), bits.data_ptr()
            population.peaks = peaks.data_ptr()
        else:
            population.spikes = None
        call.run(kernel, threads)
        del kept
        if case.alone:
            found.sums.append(made["sums"].permute(1, 0, 4, 2, 3).long())
            if case.numbers_shift is not None:
                found.numbers.append(made["numbers"].permute(1, 0, 4, 2, 3).long())
        else:
            planes = Planes(made["spikes"], case.shape, None, own_code(case))
            found.spikes.append(planes.unpacked().long())
    found.potential, found.emitted = (
        as_maps(each, kernel.layout, case.shape) for each in (potential, emitted)
    )
    found.counts, found.bits, found.peaks = counts, bits, peaks
    return found


def check(case, threads=1):
    """All kernels that take the case do what its equations say. Returns their names."""
    wanted, took = expected(case), []
    for kernel in kernels.available():
        call = call_of(case, slice(STEPS))[0]
        call.population.peaks = None if case.alone else case.bias.data_ptr()  # asked for below
        if call.refusals(kernel):
            continue
        found = found_by(kernel, case, threads)
        took.append(kernel.name)
        for kind in ("spikes", "sums", "numbers"):
            for own, right in zip(getattr(found, kind), getattr(wanted, kind), strict=True):
                assert torch.equal(own, right), (kernel.name, kind)
        if case.alone:
            continue
        assert torch.equal(found.potential, wanted.potential), kernel.name
        assert torch.equal(found.counts, wanted.counts), kernel.name
        assert torch.equal(found.peaks, wanted.peaks), kernel.name
        if case.signed:
            assert torch.equal(found.emitted, wanted.emitted), kernel.name
        if own_code(case).planes > 1:
            assert torch.equal(found.bits, wanted.bits), kernel.name
    return took


class Draw:
    """Random numbers of one seed."""

    def __init__(self, seed):
        self.random = torch.Generator().manual_seed(seed)

    def whole(self, low, high, *size):
        """Whole numbers from low to high, both included."""
        found = torch.randint(low, high + 1, size or (1,), generator=self.random)
        return found.to(torch.int32) if size else int(found)

    def one(self, *choices):
        return choices[self.whole(0, len(choices) - 1)]

    def numbers(self, code, *size):
        """Numbers of a code, half of them 0."""
        low = -code.levels if code.signed else 0
        return self.whole(low, code.levels, *size) * self.whole(0, 1, *size)


def drawn_input(draw, shape, code, top, as_numbers, factors, identity):
    """A source of some geometry that reaches a population of that shape."""
    channels, steps = shape[0], 2 * STEPS
    options, size, inner = {}, shape[1:], channels
    weights = draw.whole(-top, top, channels)
    if not identity:
        kernel, dilation = (
            (draw.whole(1, 3), draw.whole(1, 3)),
            (draw.whole(1, 2), draw.whole(1, 2)),
        )
        stride, padding = (draw.whole(1, 2), draw.whole(1, 3)), (draw.whole(0, 2), draw.whole(0, 2))
        groups = draw.one(1, 1, *(g for g in (3, channels) if channels % g == 0))
        inner = groups * draw.whole(1, max(1, 40 // groups))
        size = tuple(
            (n - 1) * s + d * (k - 1) + 1 - 2 * p + draw.whole(0, s - 1)
            for n, s, d, k, p in zip(shape[1:], stride, dilation, kernel, padding, strict=True)
        )
        if min(size) < 1:
            return drawn_input(draw, shape, code, top, as_numbers, factors, identity)
        options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
        weights = draw.whole(-top, top, channels, inner // groups, *kernel)
    size = (steps, IMAGES, inner, *size)
    numbers = draw.whole(-90, 90, *size) if as_numbers else draw.numbers(code, *size)
    own = draw.whole(-3, 9, steps) if factors else None
    return Input(numbers, weights, options, identity, as_numbers, own)


def drawn(seed, rule=None, shape=None, **chosen):
    """A case of any features, some of them `chosen`."""
    draw = Draw(seed)
    shape = shape or (draw.one(1, 3, 6, 9, 17, 32, 33), draw.whole(1, 7), draw.whole(1, 11))
    code = draw.one(Code(), Code(3), Code(8, True))
    rule = draw.one(FIRE, DIFFERENTIAL, DCGS) if rule is None else rule
    sizes, shift = draw.whole(1, 4), draw.one(0, 0, 1, 5)
    levels = draw.one(1, 1, 3) if rule == FIRE else 2 ** (sizes - 1)
    top = draw.one(3, 40)
    sources = [
        drawn_input(draw, shape, code, top, *(draw.one(False, True) for _ in range(3)))
        for _ in range(draw.one(0, 1, 1, 2, 3))
    ]
    steps = 2 * STEPS
    amplitudes = draw.whole(1, 30, steps) * top
    edges = (amplitudes[:, None] * torch.arange(1, sizes + 1)).to(torch.int32)
    options = {
        "constant": draw.one(None, draw.whole(-top, top, IMAGES, *shape)),
        "current": draw.one(None, draw.whole(-top, top, steps, IMAGES, *shape)),
        "stream": draw.one(None, draw.whole(-top, top, steps, IMAGES, *shape)),
        "reset_to_zero": rule == FIRE and draw.one(False, True),
        "ceiling": draw.one(None, draw.whole(top, 90 * top, shape[0])),
        "shift": shift,
        "alone": draw.one(False, False, True),
        "signed": rule != FIRE or draw.one(False, True),
        **chosen,
    }
    if options["alone"]:
        options["numbers_shift"] = draw.one(None, 4, 7)
    if options["signed"] and rule == FIRE:
        options["reset_to_zero"] = False
    levels = options.pop("levels", levels)
    return Case(
        shape, sources, code, rule, levels, bias=draw.whole(-5 * top, 5 * top, shape[0]),
        threshold=draw.whole(top, 20 * top, shape[0]), start=draw.whole(-top, top, *shape),
        sizes=sizes, amplitudes=amplitudes, edges=edges, **{"numbers_shift": None, **options},
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(40))
def test_all_features_at_once(seed):
    assert "scatter-portable" in check(drawn(seed), threads=1 + seed % 3)


@pytest.mark.parametrize("rule", [FIRE, DIFFERENTIAL, DCGS], ids=["fire", "differential", "dcgs"])
@pytest.mark.parametrize("shift", [0, 4])
@pytest.mark.parametrize("seed", range(100, 105))
def test_every_rule(seed, rule, shift):
    case = drawn(seed, rule, shift=shift, alone=False)
    check(case)
    fired = torch.cat(expected(case).spikes)
    assert int(fired.abs().max()) <= case.levels


@pytest.mark.parametrize("seed", range(200, 206))
def test_sums_alone_are_those_that_neurons_receive(seed):
    check(drawn(seed, alone=True))


@pytest.mark.parametrize("seed", range(300, 306))
def test_neurons_of_spikes_alone(seed):
    """What every kernel computes: no numbers, factors, rounding."""
    case = drawn(seed, FIRE, shift=0, alone=False, signed=False, stream=None)
    for each in case.sources:
        object.__setattr__(each, "as_numbers", False)
        object.__setattr__(each, "factors", None)
        each.numbers.copy_(each.numbers.remainder(case.code.levels + 1))
    check(case)


def one_convolution(case, inner, size, kernel, **options):
    """The same with one source in place of its own: a padded convolution of maps of that size."""
    draw, (height, width) = Draw(1), size
    numbers = draw.numbers(case.code, 2 * STEPS, IMAGES, inner, height, width)
    groups = options.get("groups", 1)
    weights = draw.whole(-30, 30, case.shape[0], inner // groups, kernel, kernel)
    options = {"padding": (kernel // 2, kernel // 2), **options}
    return replace(case, sources=[Input(numbers, weights, options, False, False, None)])


@pytest.mark.parametrize("rule", [FIRE, DIFFERENTIAL, DCGS], ids=["fire", "differential", "dcgs"])
@pytest.mark.parametrize(
    ("channels", "inner", "groups"),
    [(24, 24, 24), (7, 7, 7), (24, 12, 6), (16, 3, 1), (5, 64, 1), (1, 1, 1)],
)
def test_dense_products_of_any_groups(rule, channels, inner, groups):
    case = drawn(401, rule, shape=(channels, 5, 8), alone=False)
    case = one_convolution(case, inner, (5, 8), 3, groups=groups)
    assert {"madd-portable", "scatter-portable"} <= {*check(case)}


@pytest.mark.parametrize("alone", [False, True], ids=["neurons", "sums"])
@pytest.mark.parametrize("beside", [False, True], ids=["plain", "beside a stream"])
@pytest.mark.parametrize("size", [(9, 11), (16, 8), (13, 32)])
@pytest.mark.parametrize("wide", [False, True], ids=["narrow", "wide"])
def test_tables_beyond_the_caches(wide, size, beside, alone):
    """Then the lookups for AVX-512 take several blocks of an image together."""
    for code in (Code(), Code(3)) if wide else (Code(),):
        case = drawn(404, FIRE, shape=(96, *size), shift=0, alone=alone, signed=False, levels=1)
        case = replace(one_convolution(replace(case, code=code), 96, size, 3), wide=wide)
        draw = Draw(2)
        steps = (2 * STEPS, IMAGES, *case.shape)
        identity = draw.numbers(code, *steps), draw.whole(-9, 9, 96), {}, True, False, None
        streams = {
            "stream": draw.whole(-99, 99, *steps) if beside else None,
            "sources": [*case.sources, Input(*identity)] if beside else case.sources,
        }
        took = check(replace(case, constant=None, current=None, **streams))
        assert "lookup-avx512" in took or library.level() < 2


@pytest.mark.parametrize("code", [Code(), Code(3), Code(8, True)], ids=["one", "three", "signed"])
@pytest.mark.parametrize("sign", [1, -1])
def test_sums_of_an_own_channel_on_both_sides_of_16_bits(code, sign):
    """Channels 0 to 19 have the largest weights whose nine products fit, the others 1 more."""
    case = drawn(403, FIRE, shape=(40, 6, 7), shift=0, alone=True)
    case = one_convolution(replace(case, code=code), 40, (6, 7), 3, groups=40)
    (source,) = case.sources
    largest = 16 if code.signed else code.levels  # a spike that its planes can write
    source.weights.fill_(sign * (2**15 - 1) // (9 * largest))
    source.weights[20:] += sign
    source.numbers.fill_(code.levels)
    assert {"madd-portable", "scatter-portable"} <= {*check(case)}


def test_images_that_are_computed_in_parts():
    case = drawn(402, DIFFERENTIAL, shape=(3, 70, 66), alone=False, constant=None)
    check(one_convolution(case, 16, (70, 66), 3))


def test_ties_go_to_even():
    bias = torch.tensor([-6, -3, -2, -1, 0, 1, 2, 3, 6], dtype=torch.int32)
    case = drawn(0, FIRE, shift=2, alone=True, constant=None, current=None, stream=None)
    case = replace(case, numbers_shift=None)
    start = torch.zeros((9, 1, 1), dtype=torch.int32)
    case = replace(case, shape=(9, 1, 1), sources=[], bias=bias, start=start)
    check(case)
    assert expected(case).sums[0][0, 0].flatten().tolist() == [-2, -1, 0, 0, 0, 0, 0, 1, 2]
