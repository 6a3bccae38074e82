import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.conversion.passes.snap import INPUT_GRID, WEIGHT_GRID, snap
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import (
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    Output,
    ReLU,
    Round,
    interpret,
    tensors,
)
from spiking_resnet.graph.exactness import exact_steps
from spiking_resnet.graph.grids import MANTISSA
from spiking_resnet.neurons import IntegrateAndFire
from zoo import (
    NAMES,
    ann,
    images,
    in_float64,
    logits,
    network,
    same_tensors,
    spike_trains,
    spiking,
    traced,
)


def on_grid(tensor, bits):
    units = tensor.double() * 2.0**bits
    return torch.equal(units, units.round())


def normal(name):
    """A normalised network, off the grid."""
    thresholds = {node.name: torch.tensor(1.7) for node in ann(name).of(ReLU)}
    return normalise(fire(ann(name), thresholds, Kind()))


@pytest.mark.parametrize("scale", [0.01, 1.0, 255.0, 65535.0, 1e7])
def test_pixels_of_any_size_are_as_good_as_others(scale):
    """A network whose first layer divides by what its images were multiplied by."""
    net, frames = copy.deepcopy(network("identity")).eval(), images("identity", 40)
    first = next(m for m in net.modules() if isinstance(m, torch.nn.Conv2d))
    with torch.no_grad():
        expected = net(frames)
        first.weight /= scale
    options = {"percentile": 100.0, "readout": "membrane", "steps": 500}
    graph = convert(net, frames * scale, hu2021(**options))
    run = simulate(graph, frames * scale, 500)
    assert run.exact
    assert float((run.logits[-1] - expected).norm() / expected.norm()) < 0.02


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", [{}, {"per_channel": True}, {"grid": 9}], ids=str)
def test_every_tensor_is_on_its_grid(name, options):
    graph = spiking(name, **options)
    assert graph.input.grid == INPUT_GRID
    most = options.get("grid", 14)
    for node in graph.nodes:
        for tensor in tensors(node).values():
            if tensor.dtype == torch.float64:  # what reads no spikes, and is rounded afterwards
                assert on_grid(tensor, WEIGHT_GRID)
                assert all(isinstance(reader, Round) for reader in graph.consumers[node.name])
            else:
                assert node.grid <= most
                assert on_grid(tensor, node.grid)
        if isinstance(node, Round):
            assert node.bits <= most


@pytest.mark.parametrize("name", NAMES)
def test_populations_read_currents_of_their_own_grid(name):
    graph = spiking(name)
    for node in graph.integrators:
        before = graph[node.inputs[0]]
        bits = before.bits if isinstance(before, Round) else getattr(before, "grid", None)
        if bits is not None and not isinstance(before, Fire):
            assert bits == node.grid


@pytest.mark.parametrize("bits", [8, 14])
def test_spike_fed_weights_move_to_the_nearest_grid_point_and_no_further(bits):
    plain, graph = normal("projection"), snap(normal("projection"), 16, bits)
    for node in graph.of(Conv2d):
        if node.grid is not None:  # the image's own convolution is rounded afterwards instead
            moved = (node.weight.double() - plain[node.name].weight).abs().max()
            assert 0 < float(moved) <= 2.0 ** -(node.grid + 1)


def test_an_image_free_network_is_snapped_once_and_for_all():
    once = snap(charger([[0.3, -0.7, 0.1]]), 100, 12)
    assert same_tensors(snap(once, 100, 12), once)


def test_snapping_is_pure_and_repeatable():
    graph = normal("projection")
    before = {(n.name, k): t.clone() for n in graph.nodes for k, t in tensors(n).items()}
    one, other = snap(graph, 64), snap(graph, 64)
    after = {(n.name, k): t for n in graph.nodes for k, t in tensors(n).items()}
    assert all(torch.equal(after[key], tensor) for key, tensor in before.items())
    assert same_tensors(one, other)


@pytest.mark.parametrize(("steps", "bits"), [(0, 14), (10, 0), (10, 21), (-1, 14)])
def test_impossible_grids_are_refused(steps, bits):
    with pytest.raises(ValueError, match=r"1\.\.20 bits"):
        snap(normal("identity"), steps, bits)


@pytest.mark.parametrize("name", NAMES)
def test_a_grid_changes_little(name):
    options = {"readout": "membrane", "percentile": 100.0, "steps": 256}
    exact = simulate(spiking(name, **options), images(name), 256)
    free = simulate(spiking(name, grid=None, **options), images(name), 256)
    scale = float(logits(name).abs().max())
    assert float((exact.logits[-1] - free.logits[-1]).abs().max()) < 0.03 * scale


@pytest.mark.parametrize("name", NAMES)
def test_float32_is_float64_as_long_as_it_is_exact(name):
    graph = spiking(name, steps=120)
    expected = spike_trains(in_float64(graph), images(name, 3), 120)
    found = spike_trains(graph, images(name, 3), 120)
    assert all(torch.equal(found[layer], expected[layer]) for layer in expected)


@pytest.mark.parametrize("name", NAMES)
def test_the_grid_suits_the_steps_it_is_made_for(name):
    graph = spiking(name)
    assert exact_steps(graph) >= 64
    run = simulate(graph, images(name, 40), 64)
    assert run.exact
    assert run.remark == ""


def test_more_steps_have_coarser_grids():
    fine, coarse = spiking("identity", steps=16), spiking("identity", steps=20_000)
    assert exact_steps(coarse) > exact_steps(fine)
    grids = [(few.grid, many.grid) for few, many in zip(fine.nodes, coarse.nodes, strict=True)
             if isinstance(few, Conv2d) and few.grid]  # fmt: skip
    assert len(grids) == 2
    assert all(few > many >= 10 for few, many in grids)


def test_off_the_grid_nothing_is_certain():
    graph = spiking("identity", grid=None)
    assert exact_steps(graph) == 0
    assert all(t.dtype == torch.float32 for n in graph.nodes for t in tensors(n).values())
    run = simulate(graph, images("identity"), 8)
    assert not run.exact
    assert "not on a grid" in run.remark


def charger(weights, threshold=1.0, initial=0.5, limit=0.0):
    """Spikes in (every pixel, at every step, with its sign), one population, a linear read-out."""
    weights = torch.as_tensor(weights, dtype=torch.float64)
    neuron = IntegrateAndFire(
        threshold=torch.tensor(threshold),
        initial_potential=torch.tensor(initial),
        amplitude=torch.ones(()),
    )
    pixels = weights.shape[1]
    return Graph(
        (
            Input(
                name="input", inputs=(), shape=(pixels, 1, 1), encoding="poisson", scale=1e-30,
                limit=limit,
            ),
            Flatten(name="flat", inputs=("input",), shape=(pixels,)),
            Linear(
                name="charge", inputs=("flat",), shape=(len(weights),), weight=weights, bias=None
            ),
            Fire(name="fire", inputs=("charge",), shape=(len(weights),), neuron=neuron),
            Linear(
                name="read", inputs=("fire",), shape=(1,), bias=None,
                weight=torch.ones(1, len(weights)) / 8,
            ),
            Output(name="output", inputs=("read",), shape=(1,)),
        )
    )  # fmt: skip


def worst(graph, steps, sign):
    """The potentials after `steps` steps of the input that drives neuron 0 hardest one way."""
    weight = graph["charge"].weight[0]
    image = (sign * weight.sign().float()).view(1, -1, 1, 1)
    memory = {}
    for time in range(steps):
        for _ in interpret.walk(graph.nodes, image, memory, time):
            pass
    return memory["fire"][0, 0]


@pytest.mark.sweep
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    steps=st.integers(1, 300),
    bits=st.integers(8, 16),
    size=st.sampled_from([0.1, 1.0, 10.0]),
)
def test_within_the_exact_steps_the_worst_input_stays_exact(seed, steps, bits, size):
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, 6, generator=generator, dtype=torch.float64) * size
    graph = snap(charger(weights), steps, bits)
    certain = exact_steps(graph)
    grid = graph["fire"].grid
    for sign in (-1, 1):
        ran = min(certain, 400)
        potential = worst(graph, ran, sign)
        assert float(potential.abs()) * 2.0**grid <= 2.0**MANTISSA
        exact = worst(in_float64(graph), ran, sign)
        assert float(potential) == float(exact)


def test_the_bound_is_tight():
    """Just beyond the exact steps the worst input leaves the exact range, and the run says so."""
    graph = snap(charger([[3.0, -4.5, 2.25]]), 500, 14)
    certain = exact_steps(graph)
    grid = graph["fire"].grid
    assert certain >= 500
    image = -graph["charge"].weight.sign().view(1, 3, 1, 1)
    beyond = int(1.01 * certain) + 4
    assert float(worst(graph, beyond, -1).abs()) * 2.0**grid > 2.0**MANTISSA
    assert simulate(graph, image, certain).exact
    run = simulate(graph, image, beyond)
    assert not run.exact
    assert "'fire'" in run.remark
    assert "fewer grid bits" in run.remark


def test_every_engine_notices():
    graph = snap(charger([[3.0, -4.5, 2.25]]), 500, 14)
    image = -graph["charge"].weight.sign().view(1, 3, 1, 1)
    beyond = int(1.01 * exact_steps(graph)) + 4
    for name, engine in ENGINES.items():
        if not engine.unsupported(graph):
            assert not simulate(graph, image, beyond, engine=name).exact


def test_loud_images_are_watched():
    graph = spiking("identity", steps=350)
    loud = images("identity", 2) * 1e4
    run = simulate(graph, loud, 350)
    assert not run.exact
    assert any(f"{node.name!r}" in run.remark for node in graph.integrators)


def test_images_beyond_calibration_are_watched_not_refused():
    graph = spiking("identity")
    run = simulate(graph, images("identity", 2) * 1.5, 64)
    assert run.exact  # they went beyond the limit, but no potential left the exact range


def test_a_dead_layer_leaves_the_range_only_after_long():
    model = traced("dead")
    graph = hu2021(steps=64).apply(model, Calibration(images("dead", 40)))
    assert simulate(graph, images("dead"), 64).exact
    beyond = simulate(graph, images("dead", 1), 3000)
    assert not beyond.exact
    assert any(f"{node.name!r}" in beyond.remark for node in graph.integrators)


@pytest.mark.parametrize("rule", ["cumulative", "instant"])
def test_a_run_that_calls_itself_exact_is_every_engines(rule):
    """A max pool of large currents: its own sums over time count too, not only the potentials."""
    batch = images("max_pool_of_image", 40) * 30
    method = hu2021(steps=400, max_pooling=rule)
    graph = method.apply(traced("max_pool_of_image"), Calibration(batch))
    layers = list(graph.neurons)
    runs = [
        simulate(graph, batch[:4], 400, engine=engine, trains=layers)
        for engine, module in ENGINES.items()
        if not module.unsupported(graph)
    ]
    if all(run.exact for run in runs):
        for run in runs:
            assert all(torch.equal(run.trains[n], runs[0].trains[n]) for n in layers)
    else:
        assert all(any(n in run.remark for n in graph.by_name) for run in runs)


def test_grids_are_shared_by_what_is_added():
    graph = spiking("three_blocks", per_channel=True)
    for node in graph.of(Fire):
        add = graph[node.inputs[0]]
        if type(add).__name__ == "Add":
            assert {graph[name].grid for name in add.inputs} == {node.grid}


def test_a_population_that_reads_whole_spikes_counts_in_them():
    graph = spiking("average_of_49")
    pools = [n for n in graph.of(Fire) if n.name.endswith(".fire") and n.name != "output.fire"]
    assert [float(node.neuron.threshold) for node in pools] == [49]
    assert [node.grid for node in pools] == [1]
