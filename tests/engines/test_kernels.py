"""The table of kernels: what each honours, refuses and costs; and memory that is lacking."""

import ctypes

import pytest
import torch
from test_engines import assert_same, run
from test_engines_native import KERNELS, block, kernel, runnable  # noqa: F401  (a fixture)

from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.engines.cpu import kernel_costs, kernels, library
from spiking_resnet.engines.cpu.kernels import Call
from spiking_resnet.engines.cpu.library import Planes, Population, Source

pytestmark = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")

LEVELS = {"levels": 3}
ASKED = {  # what asks for each of the features that depend on no shape
    "spikes of several levels": LEVELS,
    "signed spikes": {"is_signed": 1},
    "reset to zero": {"reset_to_zero": 1},
    "currents beside spikes": {"constant": 1},
    "potentials that are watched": {"peaks": 1},
    "sums of more than 16 bits": {"wide": 1},
    "groups of channels": {},
    "numbers instead of spikes": {"numbers": 1},
    "spikes that count differently from step to step": {"factors": 1},
    "differential neurons": {"firing_rule": 1},
    "sums that are rounded": {"shift": 2},
    "sums without neurons": {"sums": 1},
}
OF_SOURCES = ("numbers", "factors")  # those of them that a source has
POINTERS = ("constant", "peaks", "sums")


class Layer:
    """32 channels of 3x3 positions behind a convolution, and memory for a call of any kernel."""

    def __init__(self, groups=1, channels=32, weight=1, **options):
        torch.manual_seed(0)
        self.weights = torch.full((channels, channels // groups, 3, 3), weight, dtype=torch.int32)
        self.spikes = Planes.packed((torch.rand(2, 1, channels, 3, 3) < 0.3).to(torch.uint8))
        self.room = torch.ones(2**16, dtype=torch.int64)
        self.made = torch.zeros(2**16, dtype=torch.int32)
        self.counts, self.start = torch.zeros(1, dtype=torch.int64), torch.zeros_like(self.made)
        own = {name: self.room.data_ptr() for name in OF_SOURCES if options.pop(name, 0)}
        pointers = {name: self.room.data_ptr() for name in POINTERS if name in options}
        options = {"planes": 1, "levels": 1, **options, **pointers}
        population = Population(
            *(2, 1, 3, 3, channels), start=self.start.data_ptr(), bias=self.start.data_ptr(),
            threshold=self.room.data_ptr(), spikes=self.made.data_ptr(),
            counts=self.counts.data_ptr(), bits=self.counts.data_ptr(), **options,
        )  # fmt: skip
        geometry = (3, 3, channels, 3, 3, 1, 1, 1, 1, 1, 1, groups, 0)
        words, weights = self.spikes.words.data_ptr(), self.weights.data_ptr()
        self.call = Call(population, [Source(words, weights, *geometry, **own)])


def test_every_line_of_the_table_is_complete():
    table = kernels.table()
    assert len({each.name for each in table}) == len(table) == len(KERNELS)
    levels = [each.instruction_set for each in table]
    assert levels == sorted(levels, reverse=True)
    for each in table:
        assert kernels.named(each.name) is each
        assert each.layout in kernels.LAYOUTS
        assert each.terms
    assert all(kernels.features())
    everything = (1 << len(kernels.features())) - 1
    assert table[-1].honours == everything  # what no other kernel takes runs, on every machine
    assert table[-1].instruction_set == 0
    with pytest.raises(ValueError, match=r"the kernels are .*scatter-portable"):
        kernels.named("walk")


@pytest.mark.parametrize("feature", ASKED)
@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_honours_a_feature_or_says_that_it_does_not(name, feature):
    own, layer = kernels.named(name), Layer(2 if "groups" in feature else 1, **ASKED[feature])
    honoured = feature in kernels.texts(own.honours)
    assert kernels.texts(layer.call.features()) == [feature]
    assert layer.call.refusals(own) == ([] if honoured else [feature])
    if not honoured:
        with pytest.raises(RuntimeError, match="does not fit"):
            layer.call.run(own, 1)


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_refuses_a_layer_says_why(name):
    own = kernels.named(name)
    odd, loud = Layer(channels=3), Layer(weight=2**20, wide=1)
    shape, sums = "a layer of this shape", "sums as large as these"
    assert set(odd.call.refusals(own)) <= {shape}
    assert set(loud.call.refusals(own)) <= {sums}
    assert odd.call.refusals(own) == ([] if shape in kernels.texts(own.honours) else [shape])
    assert loud.call.refusals(own) == ([] if sums in kernels.texts(own.honours) else [sums])


@pytest.mark.parametrize("name", KERNELS)
def test_a_kernel_that_lacks_a_feature_looks_no_further(name):
    """It would read weights as if there were no groups, from beyond them."""
    own, layer = kernels.named(name), Layer(2, weight=2**20, wide=1)
    lacks = layer.call.features() & ~own.honours
    assert layer.call.refused(own) == 0 or not lacks
    assert bool(layer.call.refusals(own)) == bool(lacks or layer.call.refused(own))


def test_a_kernel_without_its_instructions_is_not_run():
    for each in kernels.table():
        if each not in runnable():
            with pytest.raises(RuntimeError, match="does not fit"):
                Layer().call.run(each, 1)


def test_every_cost_is_of_a_kernel_and_every_kernel_has_one_for_its_instruction_set():
    terms = {each.name: set(each.terms) for each in kernels.table()}
    measured = kernel_costs.measured()
    for each in kernels.table():
        own = library.INSTRUCTION_SETS[each.instruction_set]
        remedy = f"python benchmarks/kernel_costs.py --as {own}, on a machine that runs it"
        assert each.name in measured[own], f"{each.name} has no costs: {remedy}"
        assert set(measured[own][each.name]) == set(each.terms)
    for costs in measured.values():
        for name, prices in costs.items():
            assert name not in terms or set(prices) <= terms[name]  # the rest as in general
            assert all(price >= 0 for price in prices.values())
            assert any(prices.values())


@pytest.mark.parametrize("name", KERNELS)
def test_work_is_of_all_terms(name):
    own, call = kernels.named(name), Layer().call
    few, many = (call.work(own, [rate]) for rate in (0.0, 1.0))
    assert set(few) == set(own.terms)
    assert all(0 <= few[term] <= many[term] for term in own.terms)
    assert sum(few.values()) > 0


def test_what_was_never_measured_is_used_last(monkeypatch):
    call = Layer().call
    last = kernels.table()[-1]
    costs = {"portable": {last.name: dict.fromkeys(last.terms, 1.0)}}
    monkeypatch.setattr(kernel_costs, "measured", lambda: costs)
    assert kernel_costs.quickest(kernels.table(), call, [0.5]) is last
    costs.clear()
    assert kernel_costs.quickest(kernels.table(), call, [0.5]) is kernels.table()[0]


def test_a_processor_decides_where_it_was_measured_as_it_is_used(monkeypatch):
    """Among kernels of an instruction set that it was measured with, and others; else that set."""
    call, (quick, *_, slow) = Layer().call, kernels.table()
    costs = {"avx2": {quick.name: 2.0}, "me": {slow.name: 1.0}}
    monkeypatch.setattr(kernel_costs, "measured", lambda: costs)
    monkeypatch.setattr(kernel_costs, "processor", lambda: "me")
    monkeypatch.setattr(kernel_costs, "price", lambda found, each, *_: found[each.name])
    monkeypatch.setattr(library, "level", lambda: library.INSTRUCTION_SETS.index("avx2"))
    assert kernel_costs.quickest([quick, slow], call, [0.5]) is quick  # not measured with AVX2
    costs["me"][quick.name] = 3.0
    assert kernel_costs.quickest([quick, slow], call, [0.5]) is slow


@pytest.mark.parametrize("name", KERNELS)
def test_tables_that_find_no_memory_say_how_much_they_asked_for(name):
    layer, own = Layer(), kernels.named(name)
    layer.call.population.channels = 2**40
    layer.call.sources[0].channels = 2**12
    with pytest.raises(MemoryError, match=r"no memory for [\d,]{12,} bytes: .*fewer images"):
        layer.call.tables(own)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(
    "options", [{}, {"sum_bits": 24, "grid": 16}, LEVELS], ids=["plain", "wide", "levels"]
)
def test_any_allocation_may_fail_and_the_next_run_is_right(options):
    method = hu2021(steps=20, percentile=99.0, **options)
    graph, frames = block(6, 32, (3, 3), 3, padding=1, method=method)
    expected = run(graph, frames, "cpu", 5)
    fail = library.kernels().fail_allocation
    for number in range(1, 200):
        fail(number)
        try:
            found = run(graph, frames, "cpu", 5)
            break
        except MemoryError as error:
            told = str(error)
        finally:
            fail(0)
        assert "bytes: simulate fewer images" in told
        if number % 8 == 1:
            assert_same(run(graph, frames, "cpu", 5), expected)
    assert number > 5
    assert_same(found, expected)


def test_pools_and_packing_tell_of_lacking_memory():
    extent = (ctypes.c_int64 * 15)(*(1, 1, 1, 2, 2), *(2, 2, 2, 2, 0, 0, 1, 1, 1, 1))
    room = torch.zeros(64, dtype=torch.int32)
    words = room.data_ptr()
    library.kernels().fail_allocation(1)
    with pytest.raises(MemoryError, match=r"no memory for \d+ bytes"):
        library.call("pool", words, extent, 1, words, words, words)
    library.call("pool", words, extent, 1, words, words, words)
