import pytest
import torch
from torch import nn

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.engines import plan
from spiking_resnet.engines.cpu import library
from spiking_resnet.engines.simulate import ENGINES, choose
from spiking_resnet.graph import Add, Fire, MaxPool, ReLU, interpret
from spiking_resnet.graph.exactness import exact_steps
from zoo import NAMES, ann, images, in_float64, names_with, spike_trains, spiking

cpu = ENGINES["cpu"]
OPTIONS = {
    "default": {},
    "channel": {"per_channel": True, "readout": "membrane", "percentile": 90.0},
    "zero": {"reset": "zero", "pool_neurons": False, "compensation": 1.1},
    "poisson": {"input_coding": "poisson", "per_channel": True, "seed": 3},
    "early": {"initial_potential": 0.0, "percentile": 80.0, "readout": "membrane", "grid": 8},
    "signed": {"signed": True, "percentile": 90.0},
    "burst": {"levels": 5, "per_channel": True, "percentile": 50.0, "pool_neurons": False},
    "both": {"levels": 3, "signed": True, "percentile": 60.0, "readout": "membrane"},
    "instant": {"max_pooling": "instant"},
    "plain": {"shortcut_conversion": False},
}
CASES = [
    pytest.param(name, option, id=f"{name}-{option}")
    for option in OPTIONS
    for name in {"instant": names_with(MaxPool), "plain": names_with(Add)}.get(option, NAMES)
]
FAST = [name for name in ENGINES if name != "interpreter"]
RECORD = (1, 7, 40)


def run(graph, batch, engine, steps=RECORD[-1], record=(), **options):
    return simulate(graph, batch, steps, record, engine, list(graph.neurons), **options)


def assert_same(found, expected):
    """Logits, counts and every single spike, bit for bit."""
    for layer, train in expected.trains.items():
        assert torch.equal(found.trains[layer], train), (found.engine, layer)
    for layer, count in expected.spikes.items():
        assert torch.equal(found.spikes[layer].spikes, count.spikes), (found.engine, layer)
    assert torch.equal(found.logits, expected.logits), found.engine


@pytest.fixture(params=FAST)
def engine(request):
    if reasons := ENGINES[request.param].unsupported(spiking("identity")):
        pytest.skip(f"{request.param}: {reasons[0]}")
    return request.param


@pytest.mark.parametrize(("name", "option"), CASES)
def test_every_engine_gives_the_interpreters_spikes(name, option):
    graph = spiking(name, **OPTIONS[option])
    expected = run(graph, images(name, 3), "interpreter", record=RECORD)
    assert expected.exact
    assert any(len(train.unique()) > 1 for train in expected.trains.values())
    able = [engine for engine in FAST if not ENGINES[engine].unsupported(graph)]
    assert "layerwise" in able
    for engine in able:
        assert_same(run(graph, images(name, 3), engine, record=RECORD), expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_interpreter_as_an_engine_is_the_definition(name):
    graph = spiking(name)
    found = run(graph, images(name, 3), "interpreter", 12)
    expected = spike_trains(graph, images(name, 3), 12)
    assert all(torch.equal(found.trains[n].bool(), train) for n, train in expected.items())


@pytest.mark.parametrize("name", NAMES)
def test_the_window_changes_nothing(name, engine):
    graph = spiking(name)
    expected = run(graph, images(name, 2), "interpreter", 20, (1, 17))
    for window in (1, 3, 16, 64):
        found = run(graph, images(name, 2), engine, 20, (1, 17), window=window)
        assert_same(found, expected)


@pytest.mark.parametrize(
    ("name", "option"),
    [*((name, "channel") for name in NAMES), ("wide", "poisson"), ("stem_max_pool", "poisson")],
)
def test_neither_batch_nor_order_matter(name, option, engine):
    graph, batch = spiking(name, **OPTIONS[option]), images(name, 7)
    whole = run(graph, batch, engine, 25)
    order = torch.tensor([4, 2, 6, 0, 5, 3, 1])
    pieces = [run(graph, part, engine, 25) for part in batch[order].split([1, 2, 4])]
    for layer, train in whole.trains.items():
        joined = torch.cat([piece.trains[layer] for piece in pieces], 1)
        assert torch.equal(joined, train[:, order]), layer
    joined = torch.cat([piece.logits for piece in pieces], 1)
    assert torch.equal(joined, whole.logits[:, order])


@pytest.mark.parametrize("name", NAMES)
def test_threads_layout_and_repetition_change_nothing(name, engine):
    graph, batch = spiking(name), images(name, 5)
    expected = run(graph, batch, engine, 25)
    run(graph, batch[2:] * 0.5, engine, 9)  # leaves no state behind
    assert_same(run(graph, batch, engine, 25), expected)
    last = batch.contiguous(memory_format=torch.channels_last)
    assert_same(run(graph, last, engine, 25), expected)
    assert_same(run(graph, batch.double(), engine, 25), expected)
    torch.set_num_threads(2)
    assert_same(run(graph, batch, engine, 25), expected)


@pytest.mark.parametrize("name", ["wide", "projection", "grouped", "dilated", "stem_max_pool"])
@pytest.mark.parametrize("level", ["portable", "avx2", "avx512"])
def test_instruction_sets_give_the_same_spikes(name, level, monkeypatch):
    if reasons := cpu.unsupported(spiking(name)):
        pytest.skip(reasons[0])
    assert set(library.INSTRUCTION_SETS) >= {"portable", "avx2", "avx512"}
    monkeypatch.setattr(library, "instruction_set", level)
    graph = spiking(name, per_channel=True)
    expected = run(graph, images(name, 3), "interpreter")
    assert_same(run(graph, images(name, 3), "cpu"), expected)


@pytest.mark.parametrize("name", NAMES)
def test_float64_gives_the_same_spikes_and_logits(name):
    graph = spiking(name, readout="membrane")
    expected = run(graph, images(name, 3), "layerwise")
    found = run(in_float64(graph), images(name, 3), "interpreter")
    assert_same(found, expected)


@pytest.mark.parametrize("name", ["identity", "stem_max_pool", "signed_stream", "wide"])
def test_the_images_are_not_changed(name, engine):
    batch = images(name, 3)
    before = batch.clone()
    run(spiking(name), batch, engine)
    assert torch.equal(batch, before)


@pytest.mark.parametrize("name", ["identity", "wide"])
def test_engines_off_the_grid_agree_at_first(name, engine):
    """They round differently there: the first steps agree, and the run says it is not exact."""
    graph = spiking(name, grid=None)
    if reasons := ENGINES[engine].unsupported(graph):
        assert any("grid" in reason for reason in reasons)
        return
    expected = run(graph, images(name, 3), "interpreter", 2)
    found = run(graph, images(name, 3), engine, 2)
    for layer, train in expected.trains.items():
        assert float((found.trains[layer] != train).float().mean()) < 1e-3
    assert not found.exact


def test_auto_takes_the_first_engine_that_fits():
    graph = spiking("identity")
    first = next(name for name, engine in ENGINES.items() if not engine.unsupported(graph))
    assert choose(graph).name == first
    assert simulate(graph, images("identity", 1), 2).engine == first


@pytest.mark.parametrize("name", NAMES)
def test_the_interpreter_and_layerwise_fit_every_network(name):
    assert ENGINES["interpreter"].unsupported(spiking(name)) == []
    assert ENGINES["layerwise"].unsupported(spiking(name)) == []


def test_networks_without_unit_spikes_are_no_business_of_the_native_engine():

    thresholds = {node.name: torch.tensor(2.0) for node in ann("identity").of(ReLU)}
    graph = fire(ann("identity"), thresholds, Kind())
    reasons = cpu.unsupported(graph)
    assert any("unit spikes" in reason for reason in reasons)
    found = simulate(graph, images("identity", 2), 5, engine="layerwise", trains=graph.neurons)
    expected = spike_trains(graph, images("identity", 2), 5)
    assert all(torch.equal(found.trains[n].bool(), train) for n, train in expected.items())


def test_without_compiled_kernels_the_engine_says_what_to_do(monkeypatch):
    monkeypatch.setattr(library, "library", lambda: None)
    graph = spiking("identity")
    assert any("compiler" in reason for reason in cpu.unsupported(graph))


def test_windows_end_at_every_record():
    assert plan.windows((1, 7, 40), 16) == [(0, 1), (1, 7), (7, 23), (23, 39), (39, 40)]
    assert plan.windows((3,), 1) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("engine_name", list(ENGINES))
def test_peaks_bound_the_potentials(engine_name):
    """What is watched is never less than what the potentials were."""
    graph = spiking("three_blocks")
    if reasons := ENGINES[engine_name].unsupported(graph):
        pytest.skip(reasons[0])
    watched = tuple(node.name for node in graph.integrators)
    wanted = plan.Plan(images("three_blocks", 3), (30,), watch=watched)
    with torch.inference_mode():
        result = ENGINES[engine_name].prepare(graph).run(wanted)
        memory, largest = {}, dict.fromkeys(watched, 0.0)
        for time in range(30):
            for node, _ in interpret.walk(graph.nodes, wanted.images, memory, time):
                if node.name in largest:
                    peak = float(memory[node.name].abs().max())
                    largest[node.name] = max(largest[node.name], peak)
    for node in graph.integrators:
        assert result.peaks[node.name] >= largest[node.name]
        if isinstance(node, Fire):
            slack = max(1.0, node.step_bound)
            assert result.peaks[node.name] <= largest[node.name] + slack + 1e-3
    assert exact_steps(graph) >= 30


@pytest.mark.parametrize("padding", [0, 1])
@pytest.mark.parametrize("engine", FAST)
def test_a_pool_as_large_as_its_map_may_have_several_windows(engine, padding):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.ReLU(), nn.AvgPool2d(3, 1, padding), nn.Conv2d(8, 6, 1), nn.ReLU(),
        nn.Flatten(), nn.LazyLinear(4),
    )  # fmt: skip
    frames = torch.randn(8, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    net(frames)
    snn = convert(net.eval(), frames, hu2021(pool_neurons=False, steps=40))
    assert_same(run(snn, frames, engine), run(snn, frames, "interpreter"))
