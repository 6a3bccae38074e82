"""Networks come back from NIR spike for spike; what NIR cannot express is refused."""

import random
import re
from dataclasses import replace

import numpy as np
import pytest
import torch

import zoo
from fuzz import LIMIT, Drawn
from spiking_resnet import simulate, trace
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import dcgs, qcfs
from spiking_resnet.conversion.passes.serial import fire_serially
from spiking_resnet.export.format import ExportError
from spiking_resnet.export.nir.file import NirError
from spiking_resnet.export.nir.lowering import lowered
from spiking_resnet.export.nir.merging import merged, with_maps, without_dead_ends
from spiking_resnet.export.nir.profiles import PROFILES
from spiking_resnet.export.nir.read import from_nir
from spiking_resnet.export.nir.relays import with_relays
from spiking_resnet.export.nir.write import exported, to_nir
from spiking_resnet.graph import Add, Conv2d, Fire
from spiking_resnet.records import InputError

nir = pytest.importorskip("nir")
h5py = pytest.importorskip("h5py")

STEPS = 16
CLIENTS = [name for name, profile in PROFILES.items() if profile.is_client]
REFUSED = {  # max pools, signed streams, copied rows
    "preactivation", "two_users", "two_thresholds", "stem_max_pool", "pool_before_relu",
    "inner_max_pool", "max_pool_of_currents", "max_pool_of_image", "average_of_currents", "dense",
    "doubled", "signed_stream", "scaled", "shuffle", "split", "leaky", "uneven_pools", "upsampled",
    "arithmetic", "same_padded", "space_to_depth",
}  # fmt: skip
READERS = ["identity", "option_a", "average_of_49", "no_biases", "grouped", "mlp"]  # all read these


def trains(graph, frames, steps=STEPS, engine="interpreter"):
    run = simulate(graph, frames, steps, trains=list(graph.neurons), engine=engine)
    return {name: run.trains[name].flatten(2) for name in run.trains}, run


def same(one, other, frames, steps=STEPS):
    """Whether any neuron fires; the interpreter's spikes of one network must be the fastest
    engine's of the other.
    """
    (expected, before), (found, after) = (
        trains(one, frames, steps),
        trains(other, frames, steps, "auto"),
    )
    assert expected.keys() == found.keys()
    for name, train in expected.items():
        assert torch.equal(found[name], train), name
    assert torch.equal(before.logits, after.logits)
    return any(bool(train.any()) for train in expected.values())


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_network_comes_back_spike_for_spike(name, tmp_path):
    graph, path = zoo.spiking(name), tmp_path / "snn.nir"
    if name in REFUSED:
        with pytest.raises(ExportError, match="NIR"):
            to_nir(graph, path)
        assert not path.exists()
        return
    to_nir(graph, path)
    found = from_nir(path)
    assert same(graph, found, zoo.images(name, 4)), "some neurons fire"
    assert found.notes["method"] == graph.notes["method"]
    assert {n.name: n.grid for n in found.of(Fire)} == {n.name: n.grid for n in graph.of(Fire)}


@pytest.mark.parametrize("profile", CLIENTS)
@pytest.mark.parametrize("name", READERS)
def test_a_file_for_a_reader_holds_the_network_that_was_made_ready(name, profile, tmp_path):
    graph = zoo.spiking(name)
    made = exported(graph, PROFILES[profile], STEPS)
    to_nir(graph, tmp_path / "snn.nir", profile=profile, steps=STEPS)
    same(made.graph, from_nir(tmp_path / "snn.nir"), zoo.images(name, 4))
    assert {node.neuron.reset for node in made.graph.of(Fire)} == {PROFILES[profile].reset}
    assert not any(bool(node.neuron.initial_potential.any()) for node in made.graph.of(Fire))


@pytest.mark.parametrize("seed", range(12))
def test_random_networks_come_back_or_are_refused(seed):
    graph = Drawn(seed, small=True).graph()
    frames = (torch.rand(2, *graph.input.shape, dtype=torch.float32) * 2 - 1) * LIMIT
    try:
        drawn = to_nir(graph)
    except ExportError:
        return
    same(without_dead_ends(graph), from_nir(drawn), frames, 8)


def test_relays_fire_the_spikes_of_shortcuts():
    """Without start, image rounding and another reset, they alone change nothing."""
    for name in ("option_a", "projection", "identity"):
        graph = merged(with_maps(lowered(zoo.spiking(name), gains=True)))
        relayed, told = with_relays(graph)
        assert "relay" in told
        assert all(len(node.inputs) == 1 for node in relayed.of(Add))
        (expected, _), (found, _) = (trains(each, zoo.images(name, 4)) for each in (graph, relayed))
        for layer, train in expected.items():
            own = found[layer].unflatten(2, relayed[layer].shape)[:, :, : graph[layer].shape[0]]
            assert torch.equal(own.flatten(2), train), layer


def test_image_pixels_and_first_weights_are_exact_in_float32():
    made = exported(zoo.spiking("identity"), PROFILES["sinabs"], 64).graph
    first = next(node for node in made.of(Conv2d) if node.inputs == ("input",))
    assert first.weight.dtype == torch.float32
    population = next(node for node in made.of(Fire) if node.inputs == (first.name,))
    assert population.grid == made.input.grid + first.grid
    assert 64 * population.step_bound * 2**population.grid < 2**24
    assert simulate(made, zoo.images("identity", 3), 64).exact


def test_a_reader_above_thresholds_gets_thresholds_half_a_grid_step_lower():
    graph = zoo.spiking("identity")
    drawn = to_nir(graph, profile="norse", steps=STEPS)
    populations = {
        node.metadata["name"]: node for node in drawn.nodes.values() if "threshold" in node.metadata
    }
    for node in exported(graph, PROFILES["norse"], STEPS).graph.of(Fire):
        lower = populations[node.name].v_threshold
        assert np.array_equal(
            lower, populations[node.name].metadata["threshold"] - 2.0 ** -(node.grid + 1)
        )


def test_both_ages_of_the_schema_are_written_and_read(tmp_path):
    graph, frames = zoo.spiking("identity"), zoo.images("identity", 3)
    for profile, there in (("sinabs", False), ("norse", True)):
        path = tmp_path / f"{profile}.nir"
        to_nir(graph, path, profile=profile, steps=STEPS)
        with h5py.File(path) as file:
            assert {
                "v_reset" in node
                for node in file["node/nodes"].values()
                if node["type"][()] == b"IF"
            } == {there}
        same(exported(graph, PROFILES[profile], STEPS).graph, from_nir(path), frames)


def test_files_hold_golden_spikes_beside_the_graph(tmp_path):
    graph, frames = zoo.spiking("identity"), zoo.images("identity", 3)
    drawn = to_nir(graph, tmp_path / "snn.nir", steps=STEPS, images=frames)
    data = nir.read_data(tmp_path / "snn.nir")
    names = {node.metadata["name"]: name for name, node in drawn.nodes.items()}
    expected, _ = trains(graph, frames)
    for layer, train in expected.items():
        kept = data.nodes[names[layer]].observables["spikes"]
        assert kept.shape == (3, STEPS, train.shape[2])
        assert np.array_equal(kept.data, train.transpose(0, 1).bool().numpy())
    assert nir.read(tmp_path / "snn.nir").nodes.keys() == drawn.nodes.keys()


def test_other_files_are_read_as_nir_defines_its_nodes():
    """IF neurons reset to 0 and fire above their threshold, not at it."""
    neurons = {"r": np.ones((1, 1, 1)), "v_threshold": np.ones((1, 1, 1))}
    graph = nir.NIRGraph(
        {
            "in": nir.Input(np.array([1, 1, 1])),
            "if": nir.IF(**neurons),
            "out": nir.Output(np.array([1, 1, 1])),
        },
        [("in", "if"), ("if", "out")],
    )
    found = from_nir(graph)
    train, _ = trains(found, torch.full((1, 1, 1, 1), 0.5, dtype=torch.float32), 9)
    assert train["if"].flatten().tolist() == [0, 0, 1, 0, 0, 1, 0, 0, 1]


def renamed(node, old, new):
    """A node, where it or what it reads is called otherwise."""
    names = {old: new}
    inputs = tuple(names.get(each, each) for each in node.inputs)
    return replace(node, name=names.get(node.name, node.name), inputs=inputs)


def refusals():
    graph = zoo.spiking("identity")
    population = graph.of(Fire)[0]

    def with_neuron(**fields):
        return graph.with_nodes(
            replace(node, neuron=replace(node.neuron, **fields)) if node is population else node
            for node in graph.nodes
        )

    yield graph.with_nodes(renamed(node, population.name, "a\0b") for node in graph.nodes), "a\0b"
    yield with_neuron(levels=3), population.name
    yield with_neuron(signed=True), population.name
    for encoding in ("poisson", "once"):
        shown = replace(graph.input, encoding=encoding)
        yield graph.with_nodes(shown if n is graph.input else n for n in graph.nodes), "input"
    yield zoo.spiking("stem_max_pool"), "body.1"
    yield zoo.spiking("signed_stream"), "body.0.add.numbers"


@pytest.mark.parametrize("case", range(7))
def test_what_nir_cannot_express_is_refused_by_name(case, tmp_path):
    graph, name = list(refusals())[case]
    with pytest.raises(ExportError, match=f"^{re.escape(repr(name))}"):
        to_nir(graph, tmp_path / "snn.nir")
    assert not any(tmp_path.iterdir())


def test_neurons_of_other_kinds_are_refused_by_name():
    batches = Calibration([zoo.images("identity")])
    serial = fire_serially(zoo.spiking("identity"), 4)
    serial = serial.with_nodes([zoo.spiking("identity").input, *serial.nodes[1:]])
    differential = dcgs(steps=4).apply(zoo.traced("identity"), batches)
    for graph, told in ((serial, "waits for its whole input"), (differential, "once")):
        with pytest.raises(ExportError, match=told):
            to_nir(graph)
    gated = qcfs(steps=4, gate="srp", pre_steps=2)
    with pytest.raises(ExportError, match="gated"):
        to_nir(
            gated.apply(trace(zoo.quantised(), zoo.IMAGE), Calibration([zoo.images("identity")]))
        )


def test_branches_that_a_depth_first_reader_adds_up_wrongly_are_refused():
    with pytest.raises(ExportError, match="norse computes it before"):
        to_nir(zoo.spiking("inception"), profile="norse", steps=STEPS)


def test_arguments_are_checked(tmp_path):
    graph = zoo.spiking("identity")
    with pytest.raises(InputError, match="no NIR profile 'lava'"):
        to_nir(graph, profile="lava")
    with pytest.raises(InputError, match="no path"):
        to_nir(graph, images=zoo.images("identity"))
    with pytest.raises(InputError, match="no spiking neurons"):
        to_nir(graph.ann)
    with pytest.raises(OSError, match="cannot write"):
        to_nir(graph, tmp_path / "missing" / "snn.nir")
    for path, told in (("", "''"), ("a\0b", "path of a file")):
        with pytest.raises(InputError, match=told):
            to_nir(graph, path)
    for steps in (0, -1):
        with pytest.raises(InputError, match=f"steps is {steps}: at least 1"):
            to_nir(graph, profile="norse", steps=steps)
    with pytest.raises(NirError, match="is a folder or a device"):
        from_nir(tmp_path)


def damaged(path, what):
    """A change of a file, by name."""
    with h5py.File(path, "r+") as file:
        nodes = file["node/nodes"]
        first = next(name for name, node in nodes.items() if node["type"][()] == b"Conv2d")
        population = next(name for name, node in nodes.items() if node["type"][()] == b"IF")
        if what == "missing weights":
            del nodes[first]["weight"]
        elif what == "not finite":
            nodes[first]["bias"][0] = np.nan
        elif what == "unknown node":
            del nodes[first]["type"]
            nodes[first]["type"] = "Conv9d"
        elif what == "other neuron":
            nodes[population]["v_reset"][...] = 0.5
        elif what == "other resistance":
            nodes[population]["r"][...] = 3
        elif what == "wrong shape":
            for name in ("r", "v_threshold", "v_reset"):
                del nodes[population][name]
                nodes[population][name] = np.ones((2, 2, 2), dtype=np.float32)
        elif what == "other dt":
            del file["node/metadata/dt"]
            file["node/metadata/dt"] = 0.5
        else:
            edges = file["node/edges"][()]
            more = {"cycle": (population, first), "loose edge": (population, "nowhere")}[what]
            del file["node/edges"]
            file["node/edges"] = [*((a.decode(), b.decode()) for a, b in edges), more]
    return {"cycle": "cycle", "loose edge": "nowhere", "other dt": "time steps"}.get(
        what, population if what in ("other neuron", "other resistance", "wrong shape") else first
    )


DAMAGES = [
    "missing weights", "not finite", "unknown node", "other neuron", "other resistance",
    "wrong shape", "other dt", "cycle", "loose edge",
]  # fmt: skip


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_refused_by_name(what, tmp_path):
    path = tmp_path / "snn.nir"
    to_nir(zoo.spiking("identity"), path)
    name = damaged(path, what)
    with pytest.raises(NirError, match=name):
        from_nir(path)


def test_a_file_cut_short_anywhere_is_refused(tmp_path):
    path, rng = tmp_path / "snn.nir", random.Random(0)
    to_nir(zoo.spiking("no_biases"), path)
    content = path.read_bytes()
    for length in (0, 7, *(rng.randrange(len(content)) for _ in range(20))):
        path.write_bytes(content[:length])
        with pytest.raises(NirError, match="snn"):
            from_nir(path)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        from_nir(tmp_path / "missing.nir")
    with pytest.raises(NirError, match="no NIRGraph"):
        from_nir(3)


def test_with_one_scale_for_a_stage_shortcuts_are_direct_edges():
    graph = zoo.spiking("three_blocks", shared_scale="stage")
    made = exported(graph, PROFILES["norse"], STEPS)
    assert not any("relay" in each for each in made.told)
    populations = {name for name, node in made.nir.nodes.items() if type(node) is nir.IF}
    assert sum(one in populations and other in populations for one, other in made.nir.edges) == 3
    assert same(made.graph, from_nir(made.nir), zoo.images("three_blocks", 3))


def test_bytes_that_changed_are_refused_or_harmless(tmp_path):
    path, rng = tmp_path / "snn.nir", random.Random(0)
    to_nir(zoo.spiking("no_biases"), path)
    content, refused = path.read_bytes(), 0
    for _ in range(40):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 4, 30])):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        path.write_bytes(changed)
        try:
            from_nir(path)
        except NirError:
            refused += 1
    assert refused


def hostile(file, what):
    """A change of a file that makes its reader work without end, or read what is not its."""
    nodes = file["node/nodes"]
    first = next(node for node in nodes.values() if node["type"][()] == b"Conv2d")
    if what in ("huge", "nothing stored"):
        del first["weight"]
        first.create_dataset("weight", (10**6, 10**6) if what == "huge" else (10**4,), "f4")
    elif what == "other file":
        del first["bias"]
        first.create_dataset("bias", (4,), "f4", external=[("other", 0, 16)])
    elif what == "group in itself":
        first["more"] = file["node"]
    elif what == "array of two names":
        first["more"] = first["weight"]
    elif what == "external link":
        first["more"] = h5py.ExternalLink("other", "/node")
    else:
        first["more"] = h5py.SoftLink("/node")


HOSTILE = {
    "huge": "weight has 4000000000000 bytes", "nothing stored": "holds 0 of them",
    "other file": "bias lies in another file", "group in itself": "more stands .* under another",
    "array of two names": "under another name", "external link": "more is a link",
    "soft link": "more is a link",
}  # fmt: skip


@pytest.mark.parametrize("what", HOSTILE)
def test_a_file_that_is_made_to_do_harm_is_refused_before_it_is_read(what, tmp_path):
    path = tmp_path / "snn.nir"
    to_nir(zoo.spiking("no_biases"), path)
    with h5py.File(path, "r+") as file:
        hostile(file, what)
    with pytest.raises(NirError, match=HOSTILE[what]):
        from_nir(path)


SAYINGS = {
    "steps": ["x", -1, np.nan, [1, 2]], "fires": [5, [1, 2]], "profile": [3],
    "notes": [5, "{", "[" * 100_000],
}  # fmt: skip


@pytest.mark.parametrize("name", SAYINGS)
def test_metadata_of_other_types_is_refused(name):
    drawn = to_nir(zoo.spiking("no_biases"))
    for value in SAYINGS[name]:
        drawn.metadata[name] = value
        with pytest.raises(NirError):
            from_nir(drawn)


@pytest.mark.parametrize("name", ["grid", "step_bound", "rounded_to_bits", "initial_potential"])
def test_metadata_of_a_node_that_is_no_number_is_refused(name):
    drawn = to_nir(zoo.spiking("no_biases"))
    population = next(node for node in drawn.nodes.values() if type(node) is nir.IF)
    for value in (np.inf, np.nan, "x", [1.0, 2.0]):
        population.metadata[name] = value
        with pytest.raises(NirError):
            from_nir(drawn)


def test_an_edge_that_stands_twice_is_refused():
    drawn = to_nir(zoo.spiking("no_biases"))
    drawn.edges.append(drawn.edges[0])
    with pytest.raises(NirError, match="twice"):
        from_nir(drawn)
