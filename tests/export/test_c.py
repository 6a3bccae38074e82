"""The C program of an integer form fires the spikes of `simulate`, bit for bit."""

import ctypes
import subprocess
from dataclasses import replace

import pytest
import torch
from c_programs import check, compiled

import spiking_resnet as sr
from fuzz import LIMIT, drawn
from spiking_resnet import ann
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.export.format import ExportError
from spiking_resnet.graph import Conv2d, Linear, rename_inputs
from zoo import images, spiking

NAMES = [
    "identity", "projection", "option_a", "wide", "stem_max_pool", "inner_max_pool",
    "average_of_49", "average_of_4", "grouped", "depthwise", "dilated", "stride_3", "oblong",
    "inception", "mlp", "one_pixel", "image_shortcut", "mixed_block", "ends_in_relu",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_spikes_are_those_of_simulate(tmp_path, name):
    graph = sr.to_integers(spiking(name))
    made = sr.to_c(graph, tmp_path)
    check(compiled(tmp_path), made, graph, images(name, 2), 9)


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(tmp_path, seed):
    before, rng = drawn(seed, small=True)
    form = {"bits": rng.choice([4, 8, 12]), "per_channel": rng.random() < 0.5}
    graph = sr.to_integers(before, **form)
    if graph.input.encoding == "poisson":
        pytest.skip("random spikes")
    generator = torch.Generator().manual_seed(seed)
    batch = torch.randn(2, *graph.input.shape, generator=generator).clamp(-LIMIT, LIMIT)
    runs = [sr.simulate(graph, batch, 7, engine=engine) for engine in able(graph)]
    assert all(torch.equal(run.logits, runs[0].logits) for run in runs)
    if runs[0].exact:
        made = sr.to_c(graph, tmp_path)
        check(compiled(tmp_path), made, graph, batch, 7)


def able(graph):
    """The engines that run a graph."""
    return [name for name, engine in ENGINES.items() if not engine.unsupported(graph)]


@pytest.mark.parametrize(
    ("options", "form"),
    [
        ({"reset": "zero"}, {}),
        ({"levels": 3}, {"bits": 12}),
        ({"levels": 2, "signed": True}, {"bits": 4, "per_channel": False}),
        ({"readout": "membrane"}, {"bits": 5, "potential_bits": 16}),
        ({"readout": "spikes+membrane"}, {"potential_bits": 14, "threshold_bits": 10}),
        ({"max_pooling": "instant"}, {}),
    ],
)
def test_neurons_and_widths_of_every_kind(tmp_path, options, form):
    graph = sr.to_integers(spiking("stem_max_pool", **options), **form)
    made = sr.to_c(graph, tmp_path)
    check(compiled(tmp_path), made, graph, images("stem_max_pool", 3), 40)


def test_clang_compiles_it_without_a_warning_too(tmp_path):
    graph = sr.to_integers(spiking("projection"))
    made = sr.to_c(graph, tmp_path)
    check(compiled(tmp_path, "clang", ["-O2"]), made, graph, images("projection", 1), 5)


def test_it_is_compiled_with_and_without_optimisation(tmp_path):
    graph = sr.to_integers(spiking("inner_max_pool"))
    made = sr.to_c(graph, tmp_path)
    for options in (["-O0"], ["-O3"], ["-Os"]):
        check(compiled(tmp_path, options=options), made, graph, images("inner_max_pool", 1), 6)


def program_of(made, folder):
    """The functions of a program, as a library."""
    library = folder / "network.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", made.source, "-o", library], check=True)
    return ctypes.CDLL(str(library))


def test_pixels_of_8_bits_are_normalised_as_the_network_expects(tmp_path):
    noted = {"mean": [0.5, 0.4, 0.3], "std": [0.25, 0.5, 0.2]}
    graph = sr.to_integers(spiking("projection")).with_notes({"normalisation": noted})
    made = sr.to_c(graph, tmp_path)
    found = program_of(made, tmp_path)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, 3, 8, 8), generator=generator, dtype=torch.uint8)
    mean, std = (torch.tensor(noted[key]).view(3, 1, 1) for key in ("mean", "std"))
    run = sr.simulate(graph, (pixels.float() / 255 - mean) / std, 7)
    for image in range(2):
        found.network_init()
        found.network_set_pixels(pixels[image].permute(1, 2, 0).contiguous().numpy().tobytes())
        for _ in range(7):
            found.network_step()
        assert found.network_decision() == int(run.logits[-1, image].argmax())


def test_a_delayed_read_out_leaves_its_first_steps_out(tmp_path):
    graph = sr.to_integers(spiking("identity", readout="membrane"))
    graph = graph.with_nodes([*graph.nodes[:-1], replace(graph.output, delay=3)])
    made = sr.to_c(graph, tmp_path)
    program = compiled(tmp_path)
    for steps in (3, 8):
        check(program, made, graph, images("identity", 2), steps)


def test_sizes_are_told(tmp_path):
    graph = sr.to_integers(spiking("wide"), potential_bits=16)
    made = sr.to_c(graph, tmp_path / "wide.c", name="wide")
    assert made.source == tmp_path / "wide.c"
    assert made.header == tmp_path / "wide.h"
    assert made.weights == sum(
        node.weight.numel() for node in graph.nodes if isinstance(node, Conv2d | Linear)
    )
    neurons = sum(graph.neurons.values())
    assert 2 * neurons < made.state < 5 * neurons
    assert made.most_steps > 10**6  # saturating potentials: the read-out's sums alone
    assert "wide_step" in made.header.read_text()


def test_other_networks_are_taken_in_their_integer_form(tmp_path):
    made = sr.to_c(spiking("identity"), tmp_path)
    check(compiled(tmp_path), made, sr.to_integers(spiking("identity")), images("identity", 1), 4)


@pytest.mark.parametrize("name", ["average_of_currents", "halves"])
def test_currents_that_are_pooled_or_moved_are_refused_by_name(tmp_path, name):
    with pytest.raises(ExportError, match="of currents, for which there is no C code"):
        sr.to_c(spiking(name), tmp_path)


def test_random_spikes_are_refused(tmp_path):
    with pytest.raises(ExportError, match="'input' draws random spikes"):
        sr.to_c(spiking("identity", input_coding="poisson"), tmp_path)


@pytest.mark.parametrize("name", ["2nd", "a b", "", "ä"])
def test_names_are_identifiers(tmp_path, name):
    with pytest.raises(sr.InputError, match="name is"):
        sr.to_c(spiking("identity"), tmp_path, name=name)


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_names_of_layers_and_data_are_any_text(tmp_path, compiler):
    graph = spiking("one_pixel")
    odd = 'a"b\\n\n??/*/@FILE@ \u00e4'
    (name,) = list(graph.neurons)[:1]
    nodes = [replace(rename_inputs(n, {name: odd}), name=odd if n.name == name else n.name)
             for n in graph.nodes]  # fmt: skip
    noted = {"dataset": "**//\n/*??/\\"}
    graph = sr.to_integers(graph.with_nodes(nodes).with_notes(noted))
    made = sr.to_c(graph, tmp_path)
    check(compiled(tmp_path, compiler), made, graph, images("one_pixel", 1) / 4, 4)
    found = program_of(made, tmp_path)
    names = (ctypes.c_char_p * len(graph.neurons)).in_dll(found, "network_layer_names")
    assert [each.decode() for each in names] == list(graph.neurons)


@pytest.mark.parametrize("other", ["network.h", "network.c"])
def test_files_of_others_are_not_replaced(tmp_path, other):
    (tmp_path / other).write_text("mine")
    with pytest.raises(sr.InputError, match="was written by others"):
        sr.to_c(spiking("one_pixel"), tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [other]
    (tmp_path / other).unlink()
    for _ in range(2):
        made = sr.to_c(spiking("one_pixel"), tmp_path)
    sr.to_c(spiking("one_pixel"), made.source)


@pytest.mark.parametrize("name", ['a"b.c', "a\nb.c", "a??b.c", "a\\b.c"])
def test_files_are_such_as_an_include_can_name(tmp_path, name):
    with pytest.raises(sr.InputError, match="leave out quotes"):
        sr.to_c(spiking("one_pixel"), tmp_path / name)


def test_images_too_bright_for_16_bits_are_refused(tmp_path):
    made = sr.to_c(spiking("identity"), tmp_path)
    with pytest.raises(sr.InputError, match="16 bits hold"):
        made.pixels(images("identity", 1) * 100)
    for bad, what in (
        (images("identity", 1) * float("nan"), "NaN"),
        (images("identity", 1)[:, :1], "the program takes"),
        (images("identity", 1).numpy(), "give one tensor"),
    ):
        with pytest.raises(sr.InputError, match=what):
            made.pixels(bad)


def test_numbers_beyond_32_bits_are_refused(tmp_path):
    module = sr.to_torch(spiking("one_pixel"))
    with torch.no_grad():
        next(module.parameters()).mul_(1e9)
    with pytest.raises(ExportError, match="beyond 32 bits"):
        sr.to_c(sr.from_torch(module), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("potential_bits", [32, 16])
def test_resnet20_fires_the_same_spikes_on_20_real_images(tmp_path, real_data, potential_bits):
    network = ann.pretrained("cifar10_resnet20").model
    training = ann.load_dataset("cifar10", "train", real_data).loader(100, limit=500)
    batch, _ = next(iter(ann.load_dataset("cifar10", "test", real_data).loader(20)))
    graph = sr.to_integers(sr.convert(network, training), potential_bits=potential_bits)
    made = sr.to_c(graph, tmp_path)
    check(compiled(tmp_path), made, graph, batch, 32)
