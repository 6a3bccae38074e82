import pytest
import torch

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.conversion.passes.compensate import CANDIDATES, Trial, compensate, search
from spiking_resnet.conversion.passes.fire import Kind, fire
from spiking_resnet.conversion.passes.normalise import normalise
from spiking_resnet.graph import Add, Affine, Conv2d, Linear, ReLU, interpret, tensors
from zoo import NAMES, ann, images, same_tensors, spiking, traced


def normalised(name, factor, threshold=2.0):
    thresholds = {n.name: torch.tensor(threshold + i) for i, n in enumerate(ann(name).of(ReLU))}
    return normalise(compensate(fire(ann(name), thresholds, Kind()), factor), logits_unit=1.0)


def test_weights_and_identity_gains_grow_but_not_biases():
    plain, strong = normalised("identity", 1.0), normalised("identity", 1.5)
    assert len(plain.of(Affine)) == 1
    grown = {n.name: n for n in strong.nodes}
    for node in (*plain.of(Conv2d), *plain.of(Linear)):
        assert torch.allclose(grown[node.name].weight, 1.5 * node.weight)
        assert torch.allclose(grown[node.name].bias, node.bias)
    for add in plain.of(Add):
        assert total_gain(strong, add.name) == pytest.approx(1.5 * total_gain(plain, add.name))


def total_gain(graph, add):
    """The product of the gains on the way from the neurons to the identity input of a sum."""
    for name in graph[add].inputs:
        gain, node = 1.0, graph[name]
        while isinstance(node, Affine):
            gain, node = gain * float(node.scale), graph[node.inputs[0]]
        if not isinstance(node, Conv2d):
            return gain
    raise AssertionError(f"{add} has no identity input")


@pytest.mark.parametrize("name", NAMES)
def test_every_synapse_is_compensated_exactly_once(name):
    plain, strong = normalised(name, 1.0), normalised(name, 2.0)
    for node in plain.of(Conv2d):
        before = plain[node.inputs[0]]
        if isinstance(before, Add) and not any(isinstance(plain[n], Conv2d) for n in before.inputs):
            continue  # a sum of spikes, whose unit normalising may choose; see below
        assert torch.allclose(strong[node.name].weight, 2 * node.weight)
    for node in plain.of(Linear):
        assert torch.allclose(strong[node.name].weight, 2 * node.weight)


@pytest.mark.parametrize("name", ["leaky", "doubled"])
def test_sums_of_spikes_that_convolutions_read_are_no_synapses(name):
    """A leaky ReLU's two populations reach the next neurons through its weights alone."""
    once, twice = compensate(ann(name), 1.0), compensate(ann(name), 2.0)
    for node in once.of(Conv2d):
        before = twice[node.inputs[0]]
        assert torch.equal(twice[node.name].weight, 2 * node.weight)
        if isinstance(before, Add):
            assert before.inputs == once[before.name].inputs


def test_a_signed_stream_is_not_compensated_again():
    plain, strong = normalised("preactivation", 1.0), normalised("preactivation", 1.5)
    assert len(plain.of(Affine)) == len(strong.of(Affine))


def test_the_image_as_a_shortcut_is_a_synapse_too():
    strong = normalised("image_shortcut", 1.5)
    plain = normalised("image_shortcut", 1.0)
    add = plain.of(Add)[0].name
    assert total_gain(strong, add) == pytest.approx(1.5 * total_gain(plain, add))


def test_a_factor_of_one_is_the_same_graph():
    graph = ann("identity")
    assert compensate(graph, 1.0) is graph
    assert compensate(graph, 1) is graph


def test_compensation_is_pure():
    graph = ann("identity")
    before = [t.clone() for node in graph.nodes for t in tensors(node).values()]
    compensate(graph, 1.5)
    after = [t for node in graph.nodes for t in tensors(node).values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("factor", [0, -1.0, float("inf"), float("nan")])
def test_other_factors_are_refused(factor):
    with pytest.raises(ValueError, match="compensation factor"):
        compensate(ann("identity"), factor)


def searched(source, **options):
    method = hu2021(
        steps=32, percentile=90.0, compensation="search", compensation_steps=16,
        compensation_images=20, **options,
    )  # fmt: skip
    return method.apply(traced("identity"), Calibration(source))


def test_the_search_notes_all_its_trials_and_takes_the_best():
    graph = searched(images("identity", 40))
    notes = graph.notes["compensation"]
    assert sorted(trial["factor"] for trial in notes["trials"]) == sorted(CANDIDATES)
    best = min(notes["trials"], key=lambda trial: trial["distance"])
    assert notes["factor"] == best["factor"]
    assert (notes["steps"], notes["images"]) == (16, 20)
    assert all(0 <= trial["agreement"] <= 1 for trial in notes["trials"])


def test_the_chosen_factor_is_the_one_applied():
    graph = searched(images("identity", 40))
    method = hu2021(
        steps=32, percentile=90.0, compensation=graph.notes["compensation"]["factor"],
        compensation_images=20,
    )  # fmt: skip
    assert same_tensors(
        graph, method.apply(traced("identity"), Calibration(images("identity", 40)))
    )


def test_the_search_is_deterministic():
    one, other = searched(images("identity", 40)), searched(images("identity", 40))
    assert one.notes == other.notes
    assert same_tensors(one, other)


def test_the_search_sees_calibration_images_only():
    seen = []

    def build(factor):
        def decide(part):
            seen.append(part)
            return torch.zeros(len(part), 5)

        return decide

    batch = images("identity", 10)
    trials = search(ann("identity"), batch, build, candidates=(1.0, 1.1), batch=4)
    assert torch.equal(torch.cat(seen), torch.cat([batch, batch]))
    assert {trial.factor for trial in trials} == {1.0, 1.1}


def test_the_best_trial_is_the_closest_in_probability():
    batch = images("identity", 30)
    reference = ann("identity")

    def build(factor):
        return lambda part: interpret.logits(reference, part) * factor

    trials = search(reference, batch, build, candidates=(0.5, 1.0, 3.0))
    assert trials[0] == Trial(1.0, 1.0, 0.0)
    assert all(trial.agreement == 1 for trial in trials)  # a positive factor changes no argmax


def test_the_default_is_no_compensation():
    assert spiking("identity").notes["compensation"] == {"factor": 1.0}


def test_a_gain_already_there_is_multiplied_and_not_stacked():
    """Two Affines in a row would take the spikes' own arithmetic to float64."""
    graph = spiking("identity", shortcut_conversion=False, compensation=1.25, grid=None)
    gains = graph.of(Affine)
    assert gains
    for node in gains:  # gain 1 without conversion, times the factor
        assert not isinstance(graph[node.inputs[0]], Affine)
        assert float(node.scale) == pytest.approx(1.25)
