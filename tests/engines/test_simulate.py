import pytest
import torch

from spiking_resnet import InputError, simulate
from spiking_resnet.graph import interpret
from zoo import NAMES, ann, images, spiking, traced


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("readout", ["membrane", "spikes+membrane"])
def test_every_recorded_step_is_as_a_run_of_its_own(name, readout):
    graph, batch, record = spiking(name, readout=readout), images(name, 3), (1, 5, 16, 17, 33)
    whole = simulate(graph, batch, 40, record)
    assert whole.record == (*record, 40)
    assert whole.logits.shape == (6, 3, 5)
    for index, steps in enumerate(whole.record):
        alone = simulate(graph, batch, steps)
        assert torch.equal(whole.logits[index], alone.logits[-1])
        for layer, count in alone.spikes.items():
            assert torch.equal(whole.spikes[layer].spikes[index], count.spikes[-1])


@pytest.mark.parametrize("name", NAMES)
def test_counts_are_the_trains_summed(name):
    graph = spiking(name)
    run = simulate(graph, images(name, 3), 20, (4, 9), trains=list(graph.neurons))
    for layer, train in run.trains.items():
        assert train.shape == (20, 3, *graph[layer].shape)
        assert train.dtype == torch.uint8
        assert int(train.max()) <= 1
        for index, steps in enumerate((4, 9, 20)):
            summed = train[:steps].flatten(2).sum((0, 2), dtype=torch.int64)
            assert torch.equal(run.spikes[layer].spikes[index], summed)
        assert run.spikes[layer].neurons == graph.neurons[layer]


def test_the_papers_read_out_from_the_trains():
    graph = spiking("identity")
    run = simulate(graph, images("identity", 4), 30, trains=["output.fire"])
    count = run.trains["output.fire"].sum(0)
    memory = {}
    with torch.inference_mode():
        for time in range(30):
            for _ in interpret.walk(graph.nodes, images("identity", 4), memory, time):
                pass
    expected = (count + memory["output.fire"].softmax(1)) * graph.output.scale / 30
    assert torch.allclose(run.logits[-1], expected)


def test_the_membrane_breaks_ties():
    graph = spiking("identity")
    run = simulate(graph, images("identity", 40), 3, trains=["output.fire"])
    counts = run.trains["output.fire"].sum(0, dtype=torch.int64)
    top = counts.sort(1, descending=True).values
    tied = top[:, 0] == top[:, 1]
    assert bool(tied.any())
    best = run.logits[-1].sort(1, descending=True).values
    assert bool((best[tied, 0] > best[tied, 1]).all())
    winners = run.logits[-1].argmax(1)
    assert bool((counts.gather(1, winners[:, None])[:, 0] == top[:, 0]).all())


def test_the_mean_current_from_the_graph():
    graph = spiking("identity", readout="membrane")
    total, state = 0, None
    with torch.inference_mode():
        for _ in range(30):
            value, state = interpret.step(graph, images("identity", 4), state)
            total = total + value
    run = simulate(graph, images("identity", 4), 30)
    assert torch.allclose(run.logits[-1], total / 30 * graph.output.scale)


def test_rates_are_spikes_per_neuron_and_step():
    graph = spiking("identity")
    run = simulate(graph, images("identity", 3), 20, (10,), trains=list(graph.neurons))
    for layer, count in run.spikes.items():
        rates = count.rate(run.record)
        train = run.trains[layer].double()
        assert float(rates[0]) == pytest.approx(float(train[:10].mean()))
        assert float(rates[1]) == pytest.approx(float(train.mean()))


def test_the_same_record_twice_is_recorded_once():
    run = simulate(spiking("identity"), images("identity", 1), 8, (8, 4, 4))
    assert run.record == (4, 8)


def call(**changes):
    arguments = {"graph": spiking("identity"), "images": images("identity", 2), "steps": 4}
    return simulate(**{**arguments, **changes})


NAN, INFINITE = images("identity", 2), images("identity", 2)
NAN[1, 0, 0, 0], INFINITE[1, 0, 0, 0] = float("nan"), float("inf")
BAD = {
    "nan": ({"images": NAN}, "NaN"),
    "infinite": ({"images": INFINITE}, "infinite"),
    "integers": ({"images": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "float"),
    "one_image": ({"images": torch.zeros(3, 8, 8)}, r"one image.*give images\[None\]"),
    "size": ({"images": torch.zeros(2, 3, 9, 8)}, r"\(3, 9, 8\).*\(3, 8, 8\)"),
    "channels": ({"images": torch.zeros(2, 1, 8, 8)}, r"\(1, 8, 8\)"),
    "none": ({"images": torch.zeros(0, 3, 8, 8)}, "no images"),
    "array": ({"images": [[1.0]]}, "list"),
    "steps_0": ({"steps": 0}, "at least 1"),
    "steps_negative": ({"steps": -3}, "at least 1"),
    "window_0": ({"window": 0}, "at least 1"),
    "record_0": ({"record": (0, 2)}, r"1\.\.4"),
    "record_late": ({"record": (2, 5)}, r"1\.\.4"),
    "engine": ({"engine": "warp"}, "no engine 'warp'.*layerwise"),
    "trains": ({"trains": ["nobody"]}, "'nobody'"),
    "trains_conv": ({"trains": ["fc"]}, "'fc'"),
    "unconverted": ({"graph": ann("identity")}, "convert it first"),
    "traced": ({"graph": traced("identity")}, "convert it first"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_simulated_is_refused(case):
    changes, message = BAD[case]
    with pytest.raises(InputError, match=message):
        call(**changes)


def test_gradients_are_neither_needed_nor_kept():
    batch = images("identity", 2).requires_grad_()
    run = call(images=batch)
    assert not run.logits.requires_grad
    assert torch.equal(run.logits, call().logits)


def test_global_settings_are_restored():
    torch.set_float32_matmul_precision("high")
    try:
        call()
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")
