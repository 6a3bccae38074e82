import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from spiking_resnet.graph import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Graph,
    Input,
    Linear,
    MaxPool,
    Output,
    Pad,
    ReLU,
    Round,
    Select,
    Slice,
    interpret,
)
from spiking_resnet.neurons import IntegrateAndFire
from zoo import NAMES, images, names_with, spiking, traced

X = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0))
W = torch.randn(6, 2, 3, 3, generator=torch.Generator().manual_seed(1))


def value(node, *inputs):
    return node.value(*inputs)


def base(shape):
    return {"name": "n", "inputs": ("x",), "shape": shape}


def test_convolution():
    node = Conv2d(
        **base((6, 3, 3)), weight=W, bias=torch.arange(6.0), stride=(2, 1), padding=(1, 0),
        groups=2,
    )  # fmt: skip
    expected = F.conv2d(X, W, torch.arange(6.0), (2, 1), (1, 0), 1, 2)
    assert torch.equal(value(node, X), expected)


def test_linear():
    weight = torch.randn(3, 4)
    node = Linear(**base((3,)), weight=weight, bias=torch.ones(3))
    x = X[:, :, 0, 0]
    assert torch.allclose(value(node, x), x @ weight.T + 1)


def test_a_node_computes_in_the_dtype_of_its_weight():
    node = Conv2d(**base((6, 6, 5)), weight=W.double(), bias=None, padding=(1, 1), groups=2)
    assert value(node, X).dtype == torch.float64


def test_affine():
    node = Affine(**base((4, 6, 5)), scale=torch.arange(4.0), shift=torch.ones(4))
    assert torch.equal(value(node, X)[:, 3], 3 * X[:, 3] + 1)
    flat = Affine(**base((4,)), scale=torch.tensor(2.0))
    assert torch.equal(value(flat, X[:, :, 0, 0]), 2 * X[:, :, 0, 0])


def test_round_goes_to_the_grid_ties_to_even():
    node = Round(**base((5,)), bits=2)
    x = torch.tensor([[0.1, 0.125, 0.375, -0.125, 0.2]], dtype=torch.float64)
    assert value(node, x).tolist() == [[0.0, 0.0, 0.5, -0.0, 0.25]]
    assert value(node, x).dtype == torch.float32


def test_relu_and_its_ceiling():
    assert torch.equal(value(ReLU(**base(X.shape[1:])), X), X.clamp(min=0))
    assert torch.equal(value(ReLU(**base(X.shape[1:]), ceiling=0.5), X), X.clamp(0, 0.5))


def test_add_concat_pad_slice_flatten():
    assert torch.equal(value(Add(**base((4, 6, 5))), X, X, X), X + X + X)
    assert torch.equal(value(Concat(**base((8, 6, 5))), X, -X), torch.cat([X, -X], 1))
    pad = Pad(**base((7, 6, 8)), padding=((1, 2), (0, 0), (3, 0)))
    assert torch.equal(value(pad, X), F.pad(X, (3, 0, 0, 0, 1, 2)))
    cut = Slice(**base((4, 6, 2)), axis=2, start=1, stop=5, step=2)
    assert torch.equal(value(cut, X), X[:, :, :, 1:5:2])
    assert torch.equal(value(Flatten(**base((120,))), X), X.flatten(1))


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_select_takes_entries_in_any_order_and_as_often_as_named(axis):
    shape = [4, 6, 5]
    shape[axis] = 5
    node = Select(**base(tuple(shape)), axis=axis, index=(3, 0, 0, 2, 3))
    expected = X.transpose(0, axis + 1)[[3, 0, 0, 2, 3]].transpose(0, axis + 1)
    assert torch.equal(value(node, X), expected)


def test_average_pool_sums_then_divides():
    node = AvgPool(**base((4, 3, 3)), kernel=(3, 3), stride=(2, 2), padding=(1, 1), divisor=9)
    assert torch.allclose(value(node, X), F.avg_pool2d(X, 3, 2, 1))
    ones = torch.ones(1, 1, 7, 7)
    node = AvgPool(**base((1, 1, 1)), kernel=(7, 7), stride=(7, 7), divisor=1.0)
    assert value(node, ones).item() == 49


def pool(rule, kernel=(3, 3), stride=(2, 2), padding=(1, 1)):
    return MaxPool(
        name="pool", inputs=("x",), shape=(2, 3, 3), kernel=kernel, stride=stride,
        padding=padding, rule=rule,
    )  # fmt: skip


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32), rate=st.floats(0.05, 0.95), steps=st.integers(1, 30))
def test_the_cumulative_max_pool_counts_like_its_busiest_input(seed, rate, steps):
    generator = torch.Generator().manual_seed(seed)
    rates = torch.rand(2, 2, 6, 5, generator=generator) * rate
    spikes = (torch.rand(steps, 2, 2, 6, 5, generator=generator) < rates).float()
    node, memory, counts = pool("cumulative"), {}, torch.zeros(2, 2, 3, 3)
    for time in range(steps):
        out = node.advance([spikes[time]], memory, time)
        counts += out
        assert set(out.unique().tolist()) <= {0.0, 1.0}
        assert torch.equal(counts, F.max_pool2d(spikes[: time + 1].sum(0), 3, 2, 1))


def test_the_instant_max_pool_counts_too_much_and_ever_more():
    generator = torch.Generator().manual_seed(0)
    spikes = (torch.rand(400, 1, 2, 6, 5, generator=generator) < 0.3).float()
    excess = []
    for steps in (50, 100, 200, 400):
        node, memory = pool("instant"), {}
        out = sum(node.advance([spikes[t]], memory, t) for t in range(steps))
        excess.append(float((out - F.max_pool2d(spikes[:steps].sum(0), 3, 2, 1)).mean()))
    assert excess == sorted(excess)
    assert excess[-1] > 6 * excess[0] > 0


def poisson(seed=0, scale=2.0):
    return Input(
        name="input", inputs=(), shape=(2, 3, 3), encoding="poisson", scale=scale,
        amplitude=scale, seed=seed,
    )  # fmt: skip


def frames(node, x, steps):
    return torch.stack([node.present(x, time) for time in range(steps)])


def test_poisson_spikes_have_the_mean_of_the_pixel():
    x = torch.linspace(-2, 2, 18).view(1, 2, 3, 3)
    mean = frames(poisson(), x, 4000).mean(0)
    assert float((mean - x).abs().max()) < 4 * 1 / 4000**0.5  # 4 of the largest deviation
    assert set(frames(poisson(), x, 50).abs().unique().tolist()) == {0.0, 2.0}


def test_poisson_certainty_at_both_ends():
    x = torch.tensor([0.0, 2.0, -2.0, 5.0]).view(1, 1, 2, 2).expand(1, 2, 2, 2)
    node = Input(
        name="input", inputs=(), shape=(2, 2, 2), encoding="poisson", scale=2.0, amplitude=2.0
    )
    out = frames(node, x, 200)
    assert torch.equal(out, torch.tensor([0.0, 2.0, -2.0, 2.0]).view(2, 2).expand_as(out))


def test_poisson_draws_do_not_depend_on_the_batch():
    x = torch.rand(6, 2, 3, 3)
    whole = frames(poisson(), x, 20)
    parts = [frames(poisson(), part, 20) for part in x.split([1, 2, 3])]
    assert torch.equal(whole, torch.cat(parts, 1))


def test_poisson_draws_differ_by_seed_step_and_pixel():
    x = torch.ones(1, 2, 3, 3)
    one, other = frames(poisson(0), x, 30), frames(poisson(1), x, 30)
    assert not torch.equal(one, other)
    assert not torch.equal(one[1:], other[:-1])  # nor is one seed the other, shifted
    assert len({tuple(frame.flatten().tolist()) for frame in one}) > 25
    assert len({tuple(train.tolist()) for train in one.flatten(1).T}) == 18
    assert torch.equal(one, frames(poisson(0), x, 30))


def test_constant_images_are_taken_as_they_are_or_on_their_grid():
    node = Input(name="input", inputs=(), shape=(4, 6, 5))
    assert node.present(X, 3) is X
    snapped = Input(name="i", inputs=(), shape=(4, 6, 5), grid=3).present(X, 0)
    assert torch.equal(snapped * 8, (X.double() * 8).round())
    assert snapped.dtype == torch.float64


def test_nothing_is_read_out_before_the_first_step():
    with pytest.raises(ValueError, match="no time step"):
        interpret.readout(spiking("identity"), interpret.State())


def charged(readout):
    """One population of two neurons, straight to the read-out."""
    neuron = IntegrateAndFire(
        threshold=torch.ones(()), initial_potential=torch.zeros(()), amplitude=torch.ones(())
    )
    weight = torch.tensor([[0.75], [-0.25]])
    return Graph(
        (
            Input(name="input", inputs=(), shape=(1, 1, 1)),
            Flatten(name="flat", inputs=("input",), shape=(1,)),
            Linear(name="fc", inputs=("flat",), shape=(2,), weight=weight, bias=None),
            Fire(name="fire", inputs=("fc",), shape=(2,), neuron=neuron),
            Output(name="output", inputs=("fire",), shape=(2,), readout=readout, scale=3.0),
        )
    )


def advance(graph, batch, steps):
    state = None
    for _ in range(steps):
        _, state = interpret.step(graph, batch, state)
    return state


def test_the_papers_read_out_is_count_plus_softmax_of_the_membrane():
    graph = charged("spikes+membrane")
    found = interpret.readout(graph, advance(graph, torch.ones(1, 1, 1, 1), 5))
    # 5 steps of 0.75 and -0.25: 3 spikes and 0.75 left, no spike and -1.25 left
    softmax = torch.tensor([0.75, -1.25]).softmax(0)
    assert torch.allclose(found, (torch.tensor([3.0, 0.0]) + softmax) * 3 / 5)


def test_the_mean_read_out_is_the_mean():
    graph = charged("mean")
    found = interpret.readout(graph, advance(graph, torch.ones(1, 1, 1, 1), 5))
    assert torch.allclose(found, torch.tensor([[3 * 3 / 5, 0.0]]))


@pytest.mark.parametrize("name", ["identity", "stem_max_pool", "signed_stream"])
@pytest.mark.parametrize("readout", ["membrane", "spikes+membrane"])
def test_state_is_an_argument_and_a_result(name, readout):
    graph, batch = spiking(name, readout=readout), images(name, 3)
    with torch.inference_mode():
        state = advance(graph, batch, 7)
        memory = {key: tensor.clone() for key, tensor in state.memory.items()}
        later = advance(graph, batch, 3)  # another run in between leaves no trace
        first = interpret.step(graph, batch, state)
        second = interpret.step(graph, batch, state)
        whole = advance(graph, batch, 8)
    assert all(torch.equal(state.memory[key], tensor) for key, tensor in memory.items())
    assert (state.time, later.time, first[1].time) == (7, 3, 8)
    assert torch.equal(first[0], second[0])
    assert all(torch.equal(first[1].memory[k], whole.memory[k]) for k in whole.memory)


def test_frames_can_be_streamed():
    graph = spiking("identity", readout="membrane")
    clip = torch.stack([images("identity", 2, seed) for seed in range(6)])
    state, total = None, 0.0
    with torch.inference_mode():
        for frame in clip:
            value, state = interpret.step(graph, frame, state)
            total = total + value
        still = advance(graph, clip[0], 6)
    assert torch.allclose(interpret.readout(graph, state), total / 6 * graph.output.scale)
    assert not torch.equal(interpret.readout(graph, still), interpret.readout(graph, state))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_computed_once_is_what_would_be_computed_at_every_step(name):
    graph, batch = spiking(name), images(name, 3)
    with torch.inference_mode():
        given = interpret.constant_values(graph, batch)
        plain, quick = None, None
        for _ in range(4):
            value, plain = interpret.step(graph, batch, plain)
            same, quick = interpret.step(graph, batch, quick, given)
            assert torch.equal(value, same)
    assert given  # the first layer's current, at least


def test_nothing_is_constant_under_poisson_spikes():
    assert interpret.constants(spiking("identity", input_coding="poisson")) == set()


def test_values_are_those_of_the_nodes_asked_for():
    graph = traced("identity")
    relus = [node.name for node in graph.of(ReLU)]
    found = interpret.values(graph, images("identity"), relus)
    assert set(found) == set(relus)
    assert all(float(value.min()) >= 0 for value in found.values())


@pytest.mark.parametrize("name", names_with(MaxPool))
def test_the_artificial_network_is_unchanged_by_the_order_of_images(name):
    batch = images(name)
    with torch.inference_mode():
        found = interpret.logits(traced(name), batch)
        reversed_ = interpret.logits(traced(name), batch.flip(0)).flip(0)
    assert torch.allclose(found, reversed_, atol=1e-6)
