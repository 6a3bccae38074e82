"""What the native engine promises of memory: whose it is, what passes to C, and what runs short."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from test_engines import assert_same, run
from torch import nn

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.engines import plan
from spiking_resnet.engines.cpu import fuse, kernels, library, memory, population
from spiking_resnet.engines.cpu.memory import Memory, pointer
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import Fire, interpret
from spiking_resnet.neurons import IntegrateAndFire
from zoo import images, spiking

pytestmark = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")


class Split(nn.Module):
    """Half of a layer's channels, read by two layers; the channels cut out are a view of words."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one, self.two = nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(4, 8, 1)
        self.end = nn.Linear(256, 5)

    def forward(self, x):
        half = torch.relu(self.stem(x))[:, :4]
        both = [torch.relu(self.one(half)), torch.relu(self.two(half))]
        return self.end(torch.cat(both, 1).flatten(1))


def split():
    """(spiking network of a Split, three images)."""
    torch.manual_seed(0)
    frames = torch.randn(12, 3, 4, 4)
    return convert(Split(), frames, hu2021(steps=20, compensation=1.0, readout="membrane")), frames[
        :3
    ]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("window", [None, 1])
def test_channels_that_are_cut_out_are_memory_of_their_own(count, window):
    graph, frames = split()
    expected = run(graph, frames[:count], "interpreter", 12)
    assert_same(run(graph, frames[:count], "cpu", 12, window=window), expected)
    assert_same(run(graph, frames[:count], "cpu", 12, window=window), expected)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("split", {}), ("shuffle", {}), ("dense", {}), ("option_a", {}), ("inner_max_pool", {}),
        ("signed_stream", {}), ("stem_max_pool", {"levels": 3}), ("wide", {"signed": True}),
    ],
)  # fmt: skip
def test_nothing_reads_memory_that_was_given_back(name, options):
    assert memory.poisoned
    graph, batch = spiking(name, **options), images(name, 1)
    expected = run(graph, batch, "interpreter", 9, (1, 5))
    for window in (None, 1, 2):
        assert_same(run(graph, batch, "cpu", 9, (1, 5), window=window), expected)


def test_a_buffer_is_given_back_once_and_then_holds_nothing():
    kept = Memory()
    buffer = kept.take(8)
    numbers = buffer.numbers.fill_(7)
    kept.give(buffer)
    assert (numbers == memory.POISON).all()
    assert kept.take(8).numbers.data_ptr() == numbers.data_ptr()
    for use in (lambda: kept.give(buffer), lambda: buffer.numbers):
        with pytest.raises(RuntimeError, match="given back"):
            use()


def test_planes_that_read_others_words_own_no_memory():
    own = library.Planes.packed(torch.ones((2, 1, 3, 4, 4), dtype=torch.uint8))
    lent = own.coded(own.code)
    assert own.buffer is not None
    assert lent.words.data_ptr() == own.words.data_ptr()
    assert lent.buffer is None
    moved = library.Planes.joined([own.words], own.shape, own.code, Memory())
    assert moved.words.data_ptr() != own.words.data_ptr()
    assert torch.equal(moved.words, own.words)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(6),
        torch.zeros(6, dtype=torch.int64),
        torch.zeros(6, dtype=torch.int32, device="meta"),
        torch.zeros(7, dtype=torch.int32),
        torch.zeros((2, 3), dtype=torch.int32).t(),
    ],
    ids=["float", "long", "elsewhere", "longer", "turned"],
)
def test_only_what_the_kernels_expect_reaches_them(tensor):
    with pytest.raises(RuntimeError, match="defect of the CPU engine"):
        pointer(tensor, torch.int32, 6)


def test_every_address_passes_through_one_door():
    engines = Path(memory.__file__).parents[1]
    assert [file.name for file in engines.rglob("*.py") if "data_ptr" in file.read_text()] == [
        "memory.py"
    ]


def test_a_tensor_that_is_too_small_is_told_before_the_kernels_write_to_it():
    planes = library.Planes.packed(torch.ones((2, 1, 3, 4, 4), dtype=torch.uint8))
    with pytest.raises(RuntimeError, match="int32"):
        planes.count_into(torch.zeros((1, 3, 4, 4), dtype=torch.int32))
    with pytest.raises(RuntimeError, match="48 values"):
        planes.count_into(torch.zeros((1, 3, 4), dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", ["option_a", "average_of_4", "burst"])
def test_the_default_dtype_changes_nothing(name, dtype):
    options = {"levels": 3} if name == "burst" else {}
    name = "projection" if name == "burst" else name
    batch = images(name, 2)
    expected = run(spiking(name, **options), batch, "cpu", 12)
    graph = spiking(name, **options).with_nodes(spiking(name, **options).nodes)  # prepared anew
    planes = library.Planes.packed((torch.rand(3, 2, 70, 8, 8) < 0.5).to(torch.uint8))
    sums, density = planes.sums(), planes.density()
    torch.set_default_dtype(dtype)
    try:
        found = run(graph, batch, "cpu", 12)
        again = planes.sums(), planes.density()
    finally:
        torch.set_default_dtype(torch.float32)
    for layer, train in expected.trains.items():
        assert torch.equal(found.trains[layer], train), layer
        assert torch.equal(found.spikes[layer].spikes, expected.spikes[layer].spikes), layer
    assert torch.equal(again[0], sums)
    assert again[1] == density


def watched_call(graph, watched):
    """(a population that the walk could take, a call of it)."""
    fixed = interpret.constant_values(graph, torch.zeros(1, *graph.input.shape))
    node = graph.of(Fire)[1]
    fused = fuse.fuse(graph, fixed)[0][node.name]
    peaks = torch.zeros(1, dtype=torch.int64)
    struct = library.Population(
        *(4, 1, *node.shape[1:], node.shape[0]),
        bias=fused.bias.data_ptr(), planes=1, levels=1, wide=fused.wide,
        peaks=peaks.data_ptr() if watched else None,
    )  # fmt: skip
    sources = [library.Source(None, s.weights.data_ptr(), *s.geometry) for s in fused.synapses]
    return node, fused, kernels.Call(struct, sources)


def test_what_fits_is_decided_for_every_run(monkeypatch):
    """The walk watches no potentials: no earlier run that was not watched changes that."""
    monkeypatch.setattr(library, "level", lambda: library.INSTRUCTION_SETS.index("avx512"))
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.Conv2d(3, 32, 1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(),
        nn.Flatten(), nn.Linear(512, 3),
    )  # fmt: skip
    graph = convert(
        body, torch.randn(12, 3, 4, 4), hu2021(steps=20, compensation=1.0, readout="membrane")
    )
    node, fused, free = watched_call(graph, watched=False)
    *_, watched = watched_call(graph, watched=True)
    own = population.Population(node, fused, False).fitting[False]
    for call, fits in ((free, True), (watched, False), (free, True)):
        names = [kernel.name for kernel in own.kernels(call)]
        assert "lookup-avx512" in names
        assert ("event-rows" in names) is fits


class Driven(nn.Module):
    """One channel driven up, one down, by the image alone."""

    def __init__(self):
        super().__init__()
        self.stem, self.end = nn.Conv2d(1, 2, 1, bias=False), nn.Linear(8, 2)
        with torch.no_grad():
            self.stem.weight.copy_(torch.tensor([1.0, -1.0]).view(2, 1, 1, 1))

    def forward(self, x):
        return self.end(torch.relu(self.stem(x)).flatten(1))


def driven():
    torch.manual_seed(0)
    method = hu2021(steps=50, readout="membrane", compensation=1.0)
    return convert(Driven(), torch.rand(40, 1, 2, 2), method)


@pytest.mark.parametrize("scale", [1e4, 1e7, 1e30])
def test_images_too_bright_for_32_bits_are_computed_elsewhere(scale):
    graph, batch = driven(), torch.full((1, 1, 2, 2), scale)
    expected = run(graph, batch, "interpreter", 60)
    found = run(graph, batch, "auto", 60)
    assert found.engine == "layerwise"
    assert_same(found, expected)
    assert int(found.spikes["relu"].spikes[-1]) == 4 * 60  # the bright channel at every step
    assert not found.exact
    assert "Do not rely" in found.remark
    with pytest.raises(ValueError, match=r"'relu'.*scale the images.*'auto'"):
        run(graph, batch, "cpu", 60)


def test_a_run_is_given_up_before_a_potential_leaves_its_bits(monkeypatch):
    """As a run of so many steps that 32 bits do not hold it; here fewer bits, and fewer steps."""
    graph, batch = driven(), torch.full((1, 1, 2, 2), 0.9)
    monkeypatch.setattr(population, "MOST", 2**20)
    expected = run(graph, batch, "interpreter", 300)
    found = run(graph, batch, "auto", 300)
    assert found.engine == "layerwise"
    assert_same(found, expected)
    lowest = 300 * 2.0 ** graph["relu"].grid  # of the channel driven down; a step adds -1 or so
    monkeypatch.setattr(population, "MOST", 2 * int(lowest))
    assert run(graph, batch, "auto", 300).engine == "cpu"


def test_a_bound_that_is_too_wide_gives_up_no_run(monkeypatch):
    """What potentials were is looked up when the bound of what they may be leaves the range."""
    graph, batch = spiking("three_blocks"), images("three_blocks", 2)
    expected = run(graph, batch, "interpreter", 200)
    populations = ENGINES["cpu"].prepare(graph).populations.values()
    reach = max(max(each.fused.reach) for each in populations)
    monkeypatch.setattr(population, "MOST", 80 * reach)
    found = run(graph, batch, "auto", 200, window=8)
    assert found.engine == "cpu"
    assert_same(found, expected)


def test_weights_that_no_32_bits_hold_are_told():
    with pytest.raises(plan.OutOfRange, match="'conv'"):
        fuse._integers("conv", torch.tensor([1.0, -(2.0**22)]), 10)
    assert fuse._integers("conv", torch.tensor([2.0**20]), 10).tolist() == [2**30]


def test_a_remark_tells_a_little_beyond_the_range_from_far_beyond():
    graph, batch = driven(), torch.ones(1, 1, 2, 2)
    limit = 2.0 ** (24 - graph["relu"].grid)
    little = simulate(graph, batch * 1.5 * limit / 50, 50)
    assert "single spikes" in little.remark
    further = simulate(graph, batch, int(10 * limit))  # in integers
    assert "exactly, in integers" in further.remark
    far = simulate(graph, batch * 20 * limit, 50)
    assert "single spikes" not in far.remark
    assert "Do not rely" in far.remark


@pytest.mark.parametrize("several", [False, True])
def test_spikes_are_counted_exactly_however_many_they_are(several):
    """2^24 + 1 spikes at one step are no float32."""
    one = torch.ones((), dtype=torch.float32)
    neuron = IntegrateAndFire(
        threshold=one,
        initial_potential=one / 2,
        amplitude=one,
        levels=127 if several else 1,
        signed=several,
    )
    node = Fire(name="fire", inputs=("conv",), shape=(1,), neuron=neuron)
    counted = plan.Result({"fire": torch.zeros(1, dtype=torch.int64)}, {}, {})
    counted.several = frozenset({"fire"} if several else ())
    spikes = torch.ones(1, 1, 17, 993, 997, dtype=torch.bool)
    if several:
        spikes = torch.full((1, 1, 3, 363, 363), -127, dtype=torch.int8)
    counted.count(node, spikes, 0)
    assert int(counted.counts["fire"]) == int(spikes.long().abs().sum()) > 2**24


GIVES_UP = """
import ctypes, resource, sys
import torch
from spiking_resnet.engines.cpu import kernels, library
room = torch.zeros(1 << 20, dtype=torch.int32)
enough = room.data_ptr()
def run(channels, threads):
    counts = torch.zeros(64, dtype=torch.int64)
    population = library.Population(
        steps=0, images=64, height=1, width=1, channels=channels, start=enough, bias=enough,
        threshold=enough, spikes=enough, counts=counts.data_ptr(), planes=1, levels=1,
    )
    kernels.Call(population, []).run(kernels.named("scatter-portable"), threads)
def tried(channels, threads):
    try:
        run(channels, threads)
    except (MemoryError, OSError) as error:
        return f"{type(error).__name__}: {error}"
    return "ran"
print(tried(1 << 50, 1))
print(tried(1 << 50, 2))
print(tried(1, 2))
taken = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (taken + (64 << 20), resource.RLIM_INFINITY))
print(tried(1, 64))
print(tried(1, 2))
"""


@pytest.mark.sweep
@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_kernels_without_memory_or_threads_give_up_with_an_error():
    done = subprocess.run([sys.executable, "-c", GIVES_UP], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    alone, together, after, many, few = done.stdout.splitlines()
    for found in (alone, together):
        assert found.startswith("MemoryError")
        assert "fewer images" in found
    assert many.startswith("OSError")
    assert "--threads" in many
    assert (after, few) == ("ran", "ran")


def test_threads_may_simulate_one_new_graph_at_once():
    name = "three_blocks"
    batches = [images(name, 4, seed) for seed in range(4)]
    graph = spiking(name).with_nodes(spiking(name).nodes)
    expected = [run(graph, batch, "interpreter", 20) for batch in batches]
    found, ready = [None] * 4, threading.Barrier(4)

    def work(i):
        ready.wait()
        for _ in range(3):
            found[i] = run(graph, batches[i], "cpu", 20, window=5)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, other in zip(found, expected, strict=True):
        assert_same(one, other)


def test_a_kernel_that_runs_alone_leaves_other_threads_theirs():
    seen = []
    torch.set_num_threads(3)
    with library.alone():
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        if library._set_openmp_threads():
            assert torch.get_num_threads() == 1
    assert seen == [3]
    assert torch.get_num_threads() == 3
