"""The native engine's kernels against the interpreter, on every awkward size and machine."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_engines import assert_same, run
from torch import nn

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.snap import snap
from spiking_resnet.engines.cpu import fitting, fuse, kernels, library
from spiking_resnet.engines.simulate import ENGINES, choose
from spiking_resnet.graph import Fire, Pad, Slice, interpret
from spiking_resnet.records import Trains, packed
from zoo import NAMES, images, names_with, spiking

pytestmark = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")

KERNELS = [kernel.name for kernel in kernels.table()] if library.library() else []


def runnable():
    """The kernels of the table that this machine can run."""
    level = library.kernels().machine_level()
    return [kernel for kernel in kernels.table() if kernel.instruction_set <= level]


@pytest.fixture(params=KERNELS)
def kernel(request, monkeypatch):
    """Each kernel of the table that this machine can run, wherever it fits."""
    found = kernels.named(request.param)
    if found not in runnable():
        pytest.skip(f"this machine cannot run {found.name}")
    monkeypatch.setattr(library, "instruction_set", library.INSTRUCTION_SETS[found.instruction_set])
    monkeypatch.setattr(library, "kernel", found.name)


class Block(nn.Module):
    """A spiking layer, a second one of any geometry, and (where shapes allow) an identity."""

    def __init__(self, inner, outer, size, kernel, **options):
        super().__init__()
        self.stem = nn.Conv2d(2, inner, 1)
        self.conv = nn.Conv2d(inner, outer, kernel, **options)
        height, width = self.conv(torch.zeros(1, inner, *size)).shape[2:]
        self.shortcut = inner == outer and (height, width) == size
        self.end = nn.Linear(outer * height * width, 3)
        with torch.no_grad():
            self.conv.weight.mul_(2.0)

    def forward(self, x):
        x = torch.relu(self.stem(x))
        y = self.conv(x)
        return self.end(torch.relu(y + x if self.shortcut else y).flatten(1))


def block(*arguments, steps=20, method=None, seed=0, **options):
    """(spiking network, three images) of a Block."""
    torch.manual_seed(seed)
    model, frames = Block(*arguments, **options), torch.randn(12, 2, *arguments[2])
    method = method or hu2021(steps=steps, percentile=99.0)
    return convert(model, frames, method), frames[:3]


GEOMETRIES = {
    "one channel": ((1, 1, (5, 5), 3), {"padding": 1}),
    "three channels": ((3, 3, (6, 4), 3), {"padding": 1}),
    "seven to sixty-five": ((7, 65, (5, 3), 3), {}),
    "sixty-five to seven": ((65, 7, (4, 4), 1), {}),
    "many": ((513, 32, (3, 3), 3), {"padding": 1}),
    "to many": ((32, 513, (2, 3), 1), {}),
    "one pixel": ((8, 64, (1, 1), 1), {}),
    "one pixel, padded": ((64, 64, (1, 1), 3), {"padding": 1}),
    "thirty-two wide": ((16, 16, (4, 32), 3), {"padding": 1}),
    "sixteen wide": ((32, 32, (7, 16), 3), {"padding": 1}),
    "eight wide": ((12, 16, (9, 8), 3), {"padding": 1}),
    "sixty-four wide": ((5, 18, (4, 64), (3, 5)), {"padding": (1, 2)}),
    "rows apart": ((16, 16, (7, 32), 3), {"padding": 2, "dilation": 2}),
    "wider than a word": ((6, 32, (3, 70), 3), {"padding": 1}),
    "stride two": ((16, 32, (9, 9), 3), {"stride": 2, "padding": 1}),
    "stride three": ((12, 32, (10, 11), 5), {"stride": 3, "padding": 2}),
    "stride beyond kernel": ((6, 64, (9, 40), 1), {"stride": (2, 9)}),
    "asymmetric": ((10, 10, (7, 9), (1, 7)), {"padding": (0, 3)}),
    "dilated": ((32, 32, (8, 8), 3), {"padding": 2, "dilation": 2}),
    "groups": ((12, 24, (6, 6), 3), {"padding": 1, "groups": 3}),
    "odd groups": ((10, 15, (6, 6), 3), {"padding": 1, "groups": 5}),
    "depthwise": ((33, 33, (7, 7), 3), {"padding": 1, "groups": 33}),
    "depthwise, stride": ((16, 16, (7, 7), 5), {"padding": 2, "stride": 2, "groups": 16}),
    "identity": ((64, 64, (5, 5), 3), {"padding": 1}),
}


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("geometry", list(GEOMETRIES))
def test_every_geometry_gives_the_interpreters_spikes(geometry):
    arguments, options = GEOMETRIES[geometry]
    graph, frames = block(*arguments, **options)
    expected = run(graph, frames, "interpreter", 20, (1, 9))
    assert_same(run(graph, frames, "cpu", 20, (1, 9)), expected)
    assert_same(run(graph, frames, "cpu", 20, (1, 9), window=3), expected)
    assert any(0 < float(train.float().mean()) < 1 for train in expected.trains.values())


@pytest.mark.sweep
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    inner=st.integers(1, 70),
    outer=st.integers(1, 70),
    size=st.tuples(st.integers(1, 12), st.integers(1, 40)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilation=st.integers(1, 2),
    groups=st.integers(1, 3),
    fine=st.booleans(),
    seed=st.integers(0, 99),
)
def test_any_convolution_gives_the_interpreters_spikes(
    inner, outer, size, kernel, stride, dilation, groups, fine, seed
):
    padding = tuple(dilation * (length - 1) // 2 + 1 for length in kernel)
    reach = [dilation * (length - 1) + 1 for length in kernel]
    if any(n + 2 * p < r for n, p, r in zip(size, padding, reach, strict=True)):
        return
    graph, frames = block(
        inner * groups, outer * groups, size, kernel,
        stride=stride, padding=padding, dilation=dilation, groups=groups, seed=seed,
        method=hu2021(steps=20, percentile=95.0, grid=20, sum_bits=24 if fine else 16),
    )  # fmt: skip
    expected = run(graph, frames, "interpreter", 11)
    for kernel in runnable():
        library.kernel = kernel.name
        try:
            assert_same(run(graph, frames, "cpu", 11), expected)
        finally:
            library.kernel = None


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("name", sorted({*names_with(Slice), *names_with(Pad)}))
def test_what_is_cut_out_and_padded(name):
    """Convolutions with less than no padding among it: shortcuts of option A."""
    expected = run(spiking(name), images(name, 3), "interpreter", 20)
    assert_same(run(spiking(name), images(name, 3), "cpu", 20), expected)


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("threads", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_share_images_and_bands_of_them(threads, count):
    graph, frames = block(20, 32, (9, 17), 3, padding=1)
    expected = run(graph, frames[:count], "interpreter", 17)
    torch.set_num_threads(threads)
    assert_same(run(graph, frames[:count], "cpu", 17), expected)
    assert torch.get_num_threads() == threads


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9, 16, 17, 33])
def test_any_number_of_steps(steps):
    graph, frames = block(16, 32, (6, 6), 3, padding=1)
    assert_same(run(graph, frames, "cpu", steps), run(graph, frames, "interpreter", steps))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("reset", ["subtract", "zero"])
@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("initial", [0.0, 0.5, 0.9])
def test_resets_thresholds_and_starts(reset, per_channel, initial):
    method = hu2021(
        steps=20, reset=reset, per_channel=per_channel, initial_potential=initial, percentile=90.0
    )
    graph, frames = block(32, 32, (6, 6), 3, padding=1, method=method)
    assert_same(run(graph, frames, "cpu", 20), run(graph, frames, "interpreter", 20))


def wide(graph):
    """Which populations add sums of more than 16 bits."""
    fixed = interpret.constant_values(graph, torch.zeros(1, *graph.input.shape))
    return [fused.wide for fused in fuse.fuse(graph, fixed)[0].values()]


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("grid", [16, 20])
@pytest.mark.parametrize(
    "geometry", ["identity", "thirty-two wide", "sixteen wide", "stride two", "odd groups", "many"]
)
def test_sums_of_more_than_16_bits(geometry, grid):
    """A fine grid needs them: lookups in more parts, or (on the finest) another kernel."""
    arguments, options = GEOMETRIES[geometry]
    fine = hu2021(steps=20, percentile=80.0, grid=grid, sum_bits=24)
    graph, frames = block(*arguments, method=fine, **options)
    assert any(wide(graph))
    assert_same(run(graph, frames, "cpu", 20), run(graph, frames, "interpreter", 20))


@pytest.mark.parametrize("geometry", ["identity", "thirty-two wide", "stride two"])
def test_sums_fit_16_bits_on_the_default_grid(geometry):
    arguments, options = GEOMETRIES[geometry]
    graph, _ = block(*arguments, method=hu2021(steps=20, percentile=80.0, grid=20), **options)
    assert not any(wide(graph))


@pytest.mark.parametrize(
    ("kernel", "channels", "weight", "expected"),
    [
        ("lookup-avx512", 6, 2**18, True),  # more than the quotients' 8 bits hold?
        ("lookup-avx512", 6, 2**19, False),
        ("lookup-avx2", 600, 2**24 // 600, True),  # more than two numbers of 16 bits hold?
        ("lookup-avx2", 3, 2**29, False),
    ],
)
def test_sums_beyond_all_tables_are_told(kernel, channels, weight, expected):
    weights = torch.full((1, channels), weight, dtype=torch.int32)
    bias = torch.zeros(1, dtype=torch.int32)
    own = (1, 1, channels, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0)
    population = library.Population(
        steps=1, images=1, height=1, width=1, channels=1, bias=bias.data_ptr(), wide=1, planes=1,
        levels=1,
    )  # fmt: skip
    call = kernels.Call(population, [library.Source(None, weights.data_ptr(), *own)])
    assert call.refusals(kernels.named(kernel)) == ([] if expected else ["sums as large as these"])


@pytest.mark.parametrize("name", NAMES)
def test_sums_fit_16_bits_unless_asked_otherwise(name):
    for node in spiking(name).of(Fire):
        if node.inputs[0] in {n.name for n in spiking(name).nodes if hasattr(n, "weight")}:
            assert node.grid <= 10 or node.step_bound * 2.0**node.grid < 2**15


@pytest.mark.parametrize("bits", [15, 25])
def test_impossible_sums_are_refused(bits):
    with pytest.raises(ValueError, match="sums"):
        snap(spiking("identity", grid=None), 10, 14, bits)


@pytest.mark.parametrize("engine", list(ENGINES))
@pytest.mark.parametrize("name", ["identity", "inner_max_pool", "wide"])
def test_spikes_of_single_neurons_are_counted_on_request(engine, name):
    graph = spiking(name)
    names = list(graph.neurons)
    found = simulate(graph, images(name, 3), 21, (4,), engine, names, window=8, neurons=names)
    for layer, count in found.neuron_spikes.items():
        assert torch.equal(count, found.trains[layer].long().sum(0)), layer
        assert count.shape == (3, *graph[layer].shape)
    assert simulate(graph, images(name, 3), 21, engine=engine).neuron_spikes == {}


@pytest.mark.parametrize("shape", [(1,), (7,), (8,), (3, 5, 7)])
def test_trains_are_held_as_bits(shape):
    spikes = (torch.rand(6, 2, *shape) < 0.3).to(torch.uint8)
    trains = Trains({"fire": packed(spikes)}, {"fire": shape})
    assert torch.equal(trains["fire"], spikes)
    neurons = torch.Size(shape).numel()
    assert trains.bits["fire"].shape == (6, 2, -(-neurons // 8))
    assert list(trains) == ["fire"]
    assert len(trains) == 1


@pytest.mark.parametrize("shape", [(3,), (1, 1, 1), (5, 4, 8), (2, 9, 11)])
def test_planes_are_the_spikes(shape):
    spikes = (torch.rand(6, 2, *shape) < 0.4).to(torch.uint8)
    planes = library.Planes.packed(spikes)
    assert torch.equal(planes.unpacked(), spikes)
    expected = spikes.float().flatten(3).sum(3) if len(shape) == 3 else spikes.float()
    assert torch.equal(planes.sums(), expected)
    assert planes.density() == pytest.approx(float(spikes.float().mean()))
    counts = torch.ones((2, *shape), dtype=torch.int64)
    planes.count_into(counts)
    assert torch.equal(counts, 1 + spikes.long().sum(0))


@pytest.mark.parametrize("steps", [1, 7, 8, 63, 64, 130])
@pytest.mark.parametrize("shape", [(130,), (67, 5, 7)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_spikes_of_neurons_are_counted_whatever_the_steps_and_channels(steps, shape, rate):
    spikes = (torch.rand(steps, 2, *shape) < rate).to(torch.uint8)
    counts = torch.full((2, *shape), 2**40)
    library.Planes.packed(spikes).count_into(counts)
    assert torch.equal(counts, 2**40 + spikes.long().sum(0))


@pytest.mark.parametrize(
    ("level", "expected"),
    [("avx512", ["event-rows", "lookup-avx512"]), ("avx2", ["scatter-avx2", "lookup-avx2"])],
)
def test_the_kernel_is_chosen_by_what_fires(level, expected, monkeypatch):
    """Lookups cost the same whatever fires; going by the set bits pays where few are."""
    monkeypatch.setattr(library, "instruction_set", level)
    graph, _ = block(128, 128, (8, 8), 3, padding=1)
    node = graph.of(Fire)[1]
    fixed = interpret.constant_values(graph, torch.zeros(1, *graph.input.shape))
    fused = fuse.fuse(graph, fixed)[0][node.name]
    if library.INSTRUCTION_SETS[library.level()] != level:
        pytest.skip(f"this machine has no {level}")
    chosen = []
    for density in (0.01, 0.9):
        spikes = (torch.rand(4, 1, 128, 8, 8) < density).to(torch.uint8)
        planes = library.Planes.packed(spikes)
        layer = library.Population(
            steps=4, images=1, height=8, width=8, channels=128, planes=1, levels=1
        )
        sources = [library.Source(None, None, *each.geometry) for each in fused.synapses]
        call = kernels.Call(layer, sources)
        able = [kernels.named(name) for name in expected]
        rates = [planes.density()] * len(fused.synapses)
        chosen.append(fitting.choose(able, call, rates).name)
    assert chosen == expected


def test_a_missing_compiler_is_told_once(monkeypatch):
    monkeypatch.setattr(library, "library", lambda: None)
    with pytest.warns(UserWarning, match=r"C\+\+ compiler"):
        assert choose(spiking("identity")).name == "layerwise"
