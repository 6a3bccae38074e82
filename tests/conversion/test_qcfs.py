"""Quantised activations from the module to the spiking network."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from spiking_resnet import convert, load, save, simulate
from spiking_resnet.ann.activation import QCFS, qcfs
from spiking_resnet.capture.module import TraceError, trace
from spiking_resnet.conversion.methods import calibrated, hu2021
from spiking_resnet.conversion.methods import qcfs as qcfs_method
from spiking_resnet.conversion.passes.fold_bn import fold_bn
from spiking_resnet.conversion.passes.pools import relu_first
from spiking_resnet.evaluation.conditions import facts
from spiking_resnet.evaluation.diagnose import diagnose
from spiking_resnet.graph import Fire, GraphError, ReLU
from spiking_resnet.graph.interpret import logits
from spiking_resnet.neurons import IntegrateAndFire
from spiking_resnet.records import InputError
from spiking_resnet.store import digest
from zoo import images, network, quantised


@settings(deadline=None, max_examples=200)
@given(
    inputs=st.lists(st.integers(-40, 40), min_size=1, max_size=10),
    threshold=st.integers(1, 16),
    levels=st.integers(1, 12),
)
def test_it_is_the_count_of_a_neuron_with_even_input(inputs, threshold, levels):
    """threshold * spikes / T with T = levels and v0 = threshold / 2, stepped and in closed form."""
    z = torch.tensor([inputs], dtype=torch.float64)
    neuron = IntegrateAndFire(
        threshold=torch.tensor(float(threshold)).double(),
        initial_potential=torch.tensor(threshold / 2).double(),
        amplitude=torch.tensor(float(threshold)).double(),
    )
    state, sent = neuron.initial_state(z), torch.zeros_like(z)
    for _ in range(levels):
        spikes, state = neuron.step(state, z)
        sent += spikes
    expected = qcfs(z, neuron.threshold, levels)
    assert torch.allclose(sent / levels, expected, rtol=1e-12)
    counts = neuron.even_count(z * levels, levels)
    assert torch.allclose(counts * threshold / levels, expected, rtol=1e-12)


def test_the_traced_node_is_the_module_to_the_bit():
    module, z = QCFS(7, 0.93), torch.randn(5000, generator=torch.Generator().manual_seed(0)) * 2
    node = ReLU(name="r", inputs=("x",), shape=(1,), ceiling=module.threshold.item(), levels=7)
    assert torch.equal(node.value(z), module(z))


def test_the_traced_network_is_the_module():
    model, frames = quantised(), images("identity", 64)
    found = trace(model, (3, 8, 8))
    assert [(node.name, round(node.ceiling, 4), node.levels) for node in found.of(ReLU)] == [
        ("act0", 1.0, 4), ("act1", 0.8, 4), ("act2", 1.3, 4),
    ]  # fmt: skip
    with torch.inference_mode():
        assert torch.allclose(logits(found, frames), model(frames), atol=1e-6)
        folded = relu_first(fold_bn(found))
        # folded, a value beside a step may fall to its other side; few of 64 images have one
        same = torch.isclose(logits(folded, frames), model(frames), atol=1e-5).all(1)
    assert same.float().mean() > 0.9


def test_neurons_have_the_trained_thresholds_and_half_of_them_at_the_start():
    made = convert(quantised(), images("identity", 8), qcfs_method())
    expected = {"act0": 1.0, "act1": 0.8, "act2": 1.3}
    assert made.notes["thresholds"] == pytest.approx(expected)
    for node in made.of(Fire):  # in units of the threshold
        assert float(node.neuron.threshold) == 1
        assert float(node.neuron.initial_potential) == 0.5
    assert [node.levels for node in made.ann.of(ReLU)] == [4, 4, 4]
    assert facts(made).trained
    assert facts(made).levels == 1


@pytest.mark.parametrize("levels", [1, 4, 6])
def test_after_as_many_steps_as_levels_one_layer_is_equal(levels):
    """Constant input reaches a first layer evenly: spikes * threshold / T = the activation."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), QCFS(levels, 0.7), nn.Flatten(), nn.Linear(384, 5)
    ).eval()
    frames = images("identity", 40)
    made = convert(model, frames[:20], qcfs_method(steps=levels, grid=None))
    found = simulate(made, frames, levels).logits[-1]
    with torch.inference_mode():
        assert torch.allclose(found, model(frames), atol=1e-4)
        assert torch.allclose(found, logits(made.ann, frames), atol=1e-4)


def test_it_is_stored_and_loaded(tmp_path):
    for method in (qcfs_method(), qcfs_method(gate="srp", pre_steps=2)):
        made = convert(quantised(), images("identity", 8), method)
        save(made, tmp_path / "q.safetensors")
        read = load(tmp_path / "q.safetensors")
        assert digest(read) == digest(made)
        assert [node.levels for node in read.ann.of(ReLU)] == [4, 4, 4]
        frames = images("identity", 4, seed=9)
        assert torch.equal(logits(read.ann, frames), logits(made.ann, frames))
        assert torch.equal(simulate(read, frames, 9).logits, simulate(made, frames, 9).logits)


def test_plain_networks_are_refused_with_the_remedy():
    with pytest.raises(InputError, match=r"ReLU without levels.*--activation qcfs --from"):
        convert(network("identity"), images("identity", 8), "qcfs")


def test_other_methods_take_it_as_it_is():
    """They see the quantised network: its values are their target, its threshold their limit."""
    for method in (hu2021(percentile=100), calibrated(steps=8)):
        made = convert(quantised(), images("identity", 32), method)
        assert facts(made).trained
        for name, most in {"act0": 1.0, "act1": 0.8, "act2": 1.3}.items():
            thresholds = torch.tensor(made.notes["thresholds"][name])
            assert 0 < float(thresholds.max()) <= most + 1e-6


def test_diagnosis_starts_from_the_quantised_activation():
    """With T = levels a layer's own quantisation is nothing beyond what the network has anyway."""
    made = convert(quantised(levels=8), images("identity", 16), qcfs_method())
    frames = images("identity", 32, seed=4)
    with torch.inference_mode():
        labels = logits(made.ann, frames).argmax(1)
    found = diagnose(made, [(frames, labels)], steps=8)
    first = found.layers[0]
    assert first.parts["quantisation"].rms < 1e-3
    more = diagnose(made, [(frames, labels)], steps=3)
    assert more.layers[0].parts["quantisation"].rms > 1e-2


@pytest.mark.parametrize(("ceiling", "levels"), [(None, 4), (-1.0, 4), (1.0, 0)])
def test_levels_need_a_positive_ceiling(ceiling, levels):
    with pytest.raises(GraphError, match=r"'r' quantises to"):
        ReLU(name="r", inputs=("x",), shape=(1,), ceiling=ceiling, levels=levels)


def test_a_threshold_that_is_no_number_of_a_layer_is_refused():
    class PerChannel(nn.Module):
        def __init__(self):
            super().__init__()
            self.threshold, self.fc = nn.Parameter(torch.ones(4, 1, 1)), nn.Linear(256, 5)
            self.conv = nn.Conv2d(3, 4, 3, padding=1)

        def forward(self, x):
            return self.fc(qcfs(self.conv(x), self.threshold, 4).flatten(1))

    with pytest.raises(TraceError, match=r"qcfs.*one threshold for its layer"):
        trace(PerChannel(), (3, 8, 8))
