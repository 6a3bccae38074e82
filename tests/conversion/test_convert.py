import json
import warnings

import pytest
import torch
from torch import nn

import spiking_resnet as sr
from spiking_resnet import InputError, TraceError, as_module, convert, load, methods, save, simulate
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import METHODS, hu2021
from spiking_resnet.evaluation.evaluate import STEPS, usual_steps
from spiking_resnet.graph import AvgPool, Fire, GraphError, MaxPool, Output, ReLU
from zoo import NAMES, SHAPE, images, network, same_tensors, spiking, traced


@pytest.mark.parametrize("name", NAMES)
def test_conversion_is_tracing_and_then_the_method(name):
    model = network(name)
    method = methods.hu2021(steps=64, readout="spikes+membrane")
    graph = convert(model, images(name, 40), method)
    assert same_tensors(graph, spiking(name))
    assert graph.of(Fire)
    assert not graph.of(ReLU)


@pytest.mark.parametrize("name", NAMES)
def test_the_artificial_network_is_kept_folded(name):
    graph = spiking(name)
    assert graph.ann is not None
    assert graph.ann.of(ReLU)
    assert not graph.ann.of(Fire)
    assert graph.ann.ann is None


def test_the_model_is_not_changed():
    model = network("identity").train()
    state = {key: value.clone() for key, value in model.state_dict().items()}
    convert(model, images("identity", 40))
    assert model.training
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_the_spiking_network_outlives_changes_to_the_model():
    model = network("mlp")
    graph = convert(model, images("mlp", 40))
    before = simulate(graph, images("mlp", 3), 8).logits
    wanted = sr.evaluate(graph, [(images("mlp", 40), torch.zeros(40).long())], steps=(1,))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.neg_()
    assert torch.equal(simulate(graph, images("mlp", 3), 8).logits, before)
    found = sr.evaluate(graph, [(images("mlp", 40), torch.zeros(40).long())], steps=(1,))
    assert found.ann_accuracy == wanted.ann_accuracy  # graph.ann holds weights of its own


def test_a_parallel_model_gives_the_same_network():
    graph = convert(
        nn.DataParallel(network("identity")), images("identity", 40), methods.hu2021(steps=64)
    )
    assert same_tensors(graph, spiking("identity"))


def test_names_and_objects_are_methods():
    one = convert(network("identity"), images("identity", 40), "hu2021")
    other = convert(network("identity"), images("identity", 40), hu2021())
    assert same_tensors(one, other)
    assert METHODS["hu2021"] is hu2021


def test_the_notes_tell_how_it_was_made():
    graph = spiking("identity", percentile=99.0)
    assert graph.notes["method"] == "hu2021"
    assert graph.notes["options"]["percentile"] == 99.0
    assert graph.notes["options"]["steps"] == 64
    assert graph.notes["calibration_images"] == 40
    assert json.loads(json.dumps(graph.notes)) == graph.notes


def test_paper_defaults():
    """METHODS.md, section 1: what Hu, Tang and Pan's released code does."""
    options = hu2021()
    assert (options.percentile, options.per_channel) == (99.9, False)
    assert (options.initial_potential, options.reset) == (0.5, "subtract")
    assert options.compensation == 1
    assert (options.max_pooling, options.readout) == ("cumulative", "auto")
    assert (options.input_coding, options.steps) == ("constant", 350)
    graph = spiking("stem_max_pool")
    assert graph.of(MaxPool)[0].rule == "cumulative"
    assert graph.output.readout == "spikes+membrane"
    assert all(f"{pool.name}.fire" in graph.by_name for pool in graph.of(AvgPool))


def test_options_do_what_they_say():
    assert all(n.neuron.reset == "zero" for n in spiking("identity", reset="zero").of(Fire))
    starts = spiking("identity", initial_potential=0.25).of(Fire)[0].neuron.initial_potential
    assert float(starts) == 0.25
    assert not [n for n in spiking("identity", pool_neurons=False).of(Fire) if "mean" in n.name]
    assert spiking("stem_max_pool", max_pooling="instant").of(MaxPool)[0].rule == "instant"
    assert spiking("identity", readout="membrane").output.readout == "mean"
    assert "output.fire" not in spiking("identity", readout="membrane").by_name
    poisson = spiking("identity", input_coding="poisson", seed=5).input
    assert (poisson.encoding, poisson.seed) == ("poisson", 5)
    assert poisson.scale == float(images("identity", 40).abs().max())
    assert isinstance(spiking("identity").output, Output)


class Headed(nn.Module):
    """A small network whose logits are shifted by `shift` from their mean on IMAGES."""

    def __init__(self, outputs, shift):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, outputs)
        with torch.no_grad():
            self.fc.bias += shift - self(images("identity", 40)).mean(0)

    def forward(self, x):
        return self.fc(torch.relu(self.conv(x)).mean((2, 3)))


@pytest.mark.parametrize(
    ("outputs", "shift", "told"),
    [(1, 5.0, "has one output"), (2, -5.0, "40 of 40 calibration images"), (4, 5.0, None)],
)
def test_logits_that_spike_counts_cannot_say_are_read_from_the_membrane(outputs, shift, told):
    net, frames = Headed(outputs, shift).eval(), images("identity", 40)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        graph = convert(net, frames)
    assert graph.output.readout == ("mean" if told else "spikes+membrane")
    assert [str(w.message) for w in said] == list(graph.notes.get("remarks", ()))
    assert (told is None and not said) or told in str(said[0].message)
    with torch.inference_mode():
        error = (simulate(graph, frames, 350).logits[-1] - net(frames)).abs().max()
    assert float(error) < 0.5  # from spike counts: 5
    plain = convert(net, frames, hu2021(readout="spikes+membrane"))
    assert plain.output.readout == "spikes+membrane"
    assert "remarks" not in plain.notes


@pytest.mark.parametrize(
    ("method", "steps"),
    [
        (methods.hu2021(), None),
        (methods.calibrated(steps=12, images=8), 12),
        (methods.named("optimal-potential"), None),
        (methods.named("snn-calibration-light", steps=9, images=8), 9),
        (methods.differential(steps=6, images=8), 6),
        (methods.dcgs(steps=7, images=8), 7),
        (methods.calibrated(steps=5, images=8, waits=True), "latency"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_a_network_made_for_one_number_of_steps_is_run_for_it(method, steps, tmp_path):
    graph = convert(network("identity"), images("identity", 16), method)
    frames = images("identity", 3)
    steps = graph.latency if steps == "latency" else steps
    assert graph.made_for == steps
    assert usual_steps(graph) == ((steps,) if steps else STEPS)
    save(graph, tmp_path / "snn.safetensors")
    assert load(tmp_path / "snn.safetensors").made_for == steps
    run = simulate(graph, frames)
    assert run.record == (steps or 350,)
    assert torch.equal(as_module(graph)(frames), run.logits[-1])


BAD_OPTIONS = [
    ({"percentile": 0}, "percentile is 0"),
    ({"percentile": 101}, "percentile is 101"),
    ({"initial_potential": 1.0}, "initial_potential is 1.0"),
    ({"initial_potential": -0.1}, "initial_potential"),
    ({"compensation": "guess"}, "compensation is 'guess'"),
    ({"reset": "half"}, "reset is 'half'"),
    ({"readout": "spikes"}, "readout is 'spikes'"),
    ({"max_pooling": "mean"}, "max_pooling is 'mean'"),
    ({"input_coding": "ttfs"}, "input_coding is 'ttfs'"),
    ({"steps": 0}, "start at 1"),
    ({"compensation_steps": 0}, "start at 1"),
    ({"compensation_images": 0}, "start at 1"),
    ({"compensation": 0.0}, "compensation"),
    ({"grid": 0}, "grid"),
    ({"grid": 30}, "grid"),
    ({"sum_bits": 15}, "sum_bits"),
    ({"sum_bits": 25}, "sum_bits"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        hu2021(**options).apply(traced("identity"), Calibration(images("identity", 10)))


def test_unknown_methods_are_refused():
    with pytest.raises(InputError, match=r"'hu2022'.*hu2021"):
        convert(network("identity"), images("identity"), "hu2022")


def test_options_are_no_typos():
    with pytest.raises(TypeError):
        hu2021(percentil=99)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (torch.zeros(0, 3, 8, 8), "empty"),
        ([], "empty"),
        (torch.full((4, 3, 8, 8), float("nan")), "NaN"),
        (torch.zeros(4, 3, 8, 8, dtype=torch.uint8), "float"),
        ([torch.zeros(4, 3, 8, 8), torch.zeros(4, 3, 10, 10)], "change shape"),
    ],
    ids=["no_images", "no_batches", "nan", "integers", "sizes"],
)
def test_bad_calibration_is_refused(source, message):
    with pytest.raises(InputError, match=message):
        convert(network("identity"), source)


def test_calibration_images_the_model_cannot_take_are_refused():
    with pytest.raises(TraceError, match=r"\(1, 8, 8\)"):
        convert(network("identity"), torch.zeros(4, 1, 8, 8))
    with pytest.raises(TraceError, match=r"\(192,\).*\[N, C, H, W\]"):
        convert(network("identity"), torch.zeros(4, 192))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(value):
    model = network("identity")
    with torch.no_grad():
        model.body[1].first[0].weight[0, 0, 0, 0] = value
    with pytest.raises(GraphError, match=r"body\.1\.first\.0.*NaN or infinite"):
        convert(model, images("identity", 40))


def test_batch_norm_statistics_that_are_not_finite_are_named():
    model = network("identity")
    model.body[1].first[1].running_var[0] = float("nan")
    with pytest.raises(GraphError, match=r"body\.1\.first\.1.*NaN"):
        convert(model, images("identity", 40))


@pytest.mark.parametrize("name", ["identity", "dense", "mlp"])
def test_one_calibration_image_is_enough(name):
    graph = convert(network(name), images(name, 1), hu2021(steps=32))
    assert simulate(graph, images(name, 2), 8).logits.isfinite().all()


def test_black_images_do_not_break_anything():
    black = torch.zeros(4, *SHAPE["no_biases"])
    graph = convert(network("no_biases"), black, hu2021(steps=32))
    run = simulate(graph, images("no_biases", 2), 8)
    assert run.logits.isfinite().all()


def test_the_public_names_are_there():
    for name in sr.__all__:
        assert getattr(sr, name) is not None


class ThreeClasses(nn.Module):
    def forward(self, x):
        return torch.relu(x.flatten(1))[:, :3]


def test_a_network_without_weights_is_converted_too():
    graph = convert(ThreeClasses(), images("identity", 8), hu2021(steps=200, readout="membrane",
                                                                  percentile=100.0))  # fmt: skip
    found = simulate(graph, images("identity", 8), 200).logits[-1]
    assert torch.allclose(found, ThreeClasses()(images("identity", 8)), atol=0.03)


@pytest.mark.parametrize("method", ["calibrated", "differential-4", "dcgs-1", "optimal-potential"])
def test_a_network_without_relus_is_refused(method):
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).eval()
    with pytest.raises(InputError, match=f"has no ReLU, so {method} finds no place"):
        convert(module, torch.randn(8, 1, 4, 4), method)
