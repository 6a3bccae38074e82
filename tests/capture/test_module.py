import random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from spiking_resnet import convert
from spiking_resnet.capture.calls import Call, Value
from spiking_resnet.capture.module import TraceError, trace
from spiking_resnet.capture.pools import adaptive_avg_pool2d, avg_pool2d
from spiking_resnet.graph import Affine, AvgPool, Conv2d, MaxPool, ReLU, Select, interpret
from zoo import (
    CLASSES,
    NAMES,
    REFUSED,
    SHAPE,
    Branch,
    conv,
    headed,
    images,
    logits,
    network,
    random_weights,
    sequence,
    traced,
)


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_the_graph_computes_the_modules_logits(name):
    with torch.inference_mode():
        found = interpret.logits(traced(name), images(name))
    assert relative(found, logits(name)) < 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_a_model_in_training_is_traced_in_evaluation_and_left_as_it_was(name):
    model = network(name).train()
    frozen = next(m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear))
    frozen.eval()  # a mixture of modes
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    with torch.inference_mode():
        found = interpret.logits(trace(model, SHAPE[name]), images(name))
    assert relative(found, logits(name)) < 1e-4
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def test_gradients_and_their_flags_stay():
    model = network("identity")
    model(images("identity")).sum().backward()
    before = [p.grad.clone() for p in model.parameters()]
    trace(model, SHAPE["identity"])
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(p.grad, g) for p, g in zip(model.parameters(), before, strict=True))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_tracing_works_in_every_gradient_mode(mode):
    with mode():
        graph = trace(network("identity"), SHAPE["identity"])
    assert relative(interpret.logits(graph, images("identity")), logits("identity")) < 1e-4


def test_wrappers_are_looked_through():
    plain = traced("identity")
    wrapped = trace(nn.DataParallel(network("identity")), SHAPE["identity"])
    assert [node.name for node in wrapped.nodes] == [node.name for node in plain.nodes]


def test_a_float64_model_is_traced():
    graph = trace(network("identity").double(), SHAPE["identity"])
    with torch.inference_mode():
        found = interpret.logits(graph, images("identity"))
    assert relative(found, logits("identity")) < 1e-4


def test_weights_are_copies_of_no_consequence_to_the_model():
    model = network("identity")
    graph = trace(model, SHAPE["identity"])
    with torch.no_grad():
        model.fc.weight.zero_()
    assert relative(interpret.logits(graph, images("identity")), logits("identity")) < 1e-4


def test_one_relu_used_twice_is_two_nodes():
    assert len(traced("one_relu").of(ReLU)) == 3
    names = [node.name for node in traced("one_relu").of(ReLU)]
    assert len(set(names)) == 3


@pytest.mark.parametrize(("name", "count"), [("identity", 3), ("preactivation", 5), ("mlp", 2)])
def test_no_relu_is_missed(name, count):
    assert len(traced(name).of(ReLU)) == count


def test_ceilings_are_read():
    assert [node.ceiling for node in traced("relu6").of(ReLU)] == [6.0, 6.0]
    assert {node.ceiling for node in traced("two_thresholds").of(ReLU)} == {None, 0.5}


def test_convolutions_keep_their_options():
    (node,) = (n for n in traced("dilated").of(Conv2d) if n.dilation != (1, 1))
    assert (node.dilation, node.padding) == ((2, 2), (2, 2))
    assert {node.groups for node in traced("grouped").of(Conv2d)} == {1, 2}
    assert (3, 3) in {node.stride for node in traced("stride_3").of(Conv2d)}


def test_max_pools_keep_their_options():
    pool = traced("inner_max_pool").of(MaxPool)[0]
    assert (pool.kernel, pool.stride, pool.ceil_mode) == ((3, 3), (2, 2), True)
    assert traced("stem_max_pool").of(MaxPool)[0].padding == (1, 1)


def test_batch_norms_become_affine_nodes_in_float64():
    norms = traced("identity").of(Affine)
    assert len(norms) == 3
    assert all(node.scale.dtype == torch.float64 for node in norms)


def test_nodes_carry_the_users_source_line():
    add = next(n for n in traced("identity").nodes if type(n).__name__ == "Add")
    assert add.source.startswith("zoo.py:")
    assert "torch.relu(self.second(" in add.source


@pytest.mark.parametrize(
    ("factory", "shape", "word"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
def test_what_cannot_be_converted_is_refused(factory, shape, word):
    with pytest.raises(TraceError) as refusal:
        trace(factory(), shape)
    message = str(refusal.value)
    assert word in message
    assert "'" in message  # the node's name
    assert "zoo.py:" in message  # the source line
    assert any(sign in message for sign in (". ", "; "))  # the remedy


def test_an_unknown_operation_is_refused_in_one_short_line():
    def unknown(x):
        return torch.cumsum(x, 1)

    with pytest.raises(TraceError, match="cumsum has no spiking counterpart here") as refusal:
        trace(random_weights(Wrapped(unknown)), (3, 8, 8))
    message = str(refusal.value)
    assert "Replace it by what converts: convolutions" in message
    assert len(max(message.splitlines(), key=len)) < 320


def test_a_branch_on_values_is_refused():
    with pytest.raises(TraceError, match="no branch on values") as refusal:
        trace(sequence(Branch(), features=4), (3, 8, 8))
    assert "Headed" in str(refusal.value)


def test_problems_on_separate_ways_are_all_listed():
    with pytest.raises(TraceError, match="2 operation") as refusal:
        trace(random_weights(Wrapped(lambda x: F.silu(x) + F.gelu(x))), (3, 8, 8))
    assert "silu" in str(refusal.value)
    assert "gelu" in str(refusal.value)


def test_problems_that_follow_each_other_are_all_listed():
    model = headed(conv(3, 4), nn.SiLU(), conv(4, 4), nn.Sigmoid(), features=4)
    with pytest.raises(TraceError, match="2 operation") as refusal:
        trace(model, (3, 8, 8))
    assert "silu" in str(refusal.value)
    assert "sigmoid" in str(refusal.value)


def test_a_refused_model_is_left_as_it_was():
    model = headed(conv(3, 4), nn.BatchNorm2d(4), nn.SiLU(), features=4).train()
    with pytest.raises(TraceError):
        trace(model, (3, 8, 8))
    assert all(module.training for module in model.modules())


class Wrapped(nn.Module):
    """A function of the map of a stem, and a classifier."""

    def __init__(self, function):
        super().__init__()
        self.stem, self.fc, self.function = conv(3, 4), nn.Linear(4, CLASSES), function

    def forward(self, x):
        return self.fc(self.function(F.relu(self.stem(x))).mean((2, 3)))


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * x,
        lambda x: x * x.mean((2, 3), keepdim=True),
        lambda x: F.threshold(x, 0.1, 0.0),
        lambda x: x + torch.rand(8, 8),
        lambda x: F.dropout(x, 0.5),
        lambda x: nn.Dropout2d(0.5)(x),
        lambda x: F.relu(x.transpose(1, 2)[:, :4]),
        lambda x: F.relu(F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2)),
        lambda x: F.avg_pool2d(F.pad(x, (1, 1, 1, 1), value=-float("inf")), 3),
        lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"),
        lambda x: torch.cat([x, x], 2),
        lambda x: F.max_pool2d(x.transpose(2, 3), 2),
        lambda x: x / x.abs().max(),
        lambda x: x.flip(0),
        lambda x: x.roll(1, 0),
        lambda x: x[:1].expand(2, 4, 8, 8),
        lambda x: x.view(4, 2, 8, 8)[:2].repeat(1, 2, 1, 1),
        lambda x: F.adaptive_max_pool2d(x, 3),
        lambda x: F.max_pool2d(x, 2, return_indices=True)[1].float(),
        lambda x: F.conv2d(x, torch.ones(4, 1, 2, 2), padding="same", groups=4),
        lambda x: F.conv2d(x, x[:1].mean((0, 2, 3)).view(1, 4, 1, 1).expand(4, 4, 1, 1)),
    ],
)
def test_nothing_else_slips_through(function):
    with pytest.raises(TraceError, match=r"test_module\.py:"):
        trace(random_weights(Wrapped(function)), (3, 8, 8))


def test_padding_by_nothing_leaves_no_node():
    padded, plain = (
        trace(random_weights(Wrapped(function)), (3, 8, 8))
        for function in (lambda x: F.pad(x, (0, 0, 0, 0)), lambda x: x)
    )
    assert [type(n) for n in padded.nodes] == [type(n) for n in plain.nodes]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.max_pool2d(x, 2),
        lambda x: x.clamp(min=0),
        lambda x: torch.clamp(x, 0, 1.5),
        lambda x: torch.cat([x[:, 2:], x[:, :2]], 1),
        lambda x: x[:, -4:, 1:-1],
        lambda x: F.adaptive_avg_pool2d(x, 4),
        lambda x: F.adaptive_avg_pool2d(x, (8, 8)),
        lambda x: F.dropout(x, 0.5, False),
        lambda x: x * 2 / 3,
        lambda x: 3 * x,
        lambda x: F.relu_(x.clone()),
        lambda x: F.hardtanh(x, 0, 2),
        lambda x: F.avg_pool2d(x, 2, divisor_override=3),
        lambda x: x.mean((-1, -2), keepdim=True),
        lambda x: torch.add(x, x),
        lambda x: x.float().contiguous(),
        lambda x: x.to(x.dtype).type_as(x),
        # signs and constants
        lambda x: F.leaky_relu(x - 0.5, -0.3),
        lambda x: F.prelu(x - 0.5, torch.tensor([0.1, -0.2, 0.3, 1.5])),
        lambda x: F.hardtanh(x - 0.5),
        lambda x: torch.clamp(x - 0.5, min=-0.25),
        lambda x: F.threshold(x - 0.5, 0, 0),
        lambda x: 1.0 - x,
        lambda x: -x - 0,
        lambda x: torch.sub(x, x.flip(2), alpha=2),
        lambda x: torch.add(torch.ones(4, 1, 1), x, alpha=3),
        lambda x: x * torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1),
        # moves
        lambda x: x.view(-1, 2, 2, 8, 8).transpose(1, 2).reshape(-1, 4, 8, 8),
        lambda x: x.reshape(-1, 2, 64).permute(1, 0, 2).reshape(2, -1, 2, 8, 8)[1].tile(2, 1, 1),
        lambda x: torch.channel_shuffle(x, 2),
        lambda x: x.flip(1, 3),
        lambda x: torch.cat(x.chunk(4, 1)[::-1], 1),
        lambda x: torch.cat(x.split([1, 3], 1)[::-1], 1),
        lambda x: x[:, [2, 0, 0, 1]],
        lambda x: x.index_select(1, torch.tensor([3, 3, 1, 0])),
        lambda x: x.roll((1, 2), (1, 3)),
        lambda x: x.repeat(1, 1, 2, 1).repeat_interleave(2, 3),
        lambda x: x[:, :, ::2, 1::3],
        lambda x: x[:, 1].unsqueeze(1).expand(-1, 4, -1, -1),
        lambda x: F.pixel_unshuffle(x, 2).view(-1, 4, 4, 4, 4)[:, :, 1],
        lambda x: F.interpolate(x, size=(12, 5)),
        lambda x: F.interpolate(x, scale_factor=2, mode="nearest-exact"),
        lambda x: F.pad(x, (1, 2, 3, 0), mode="reflect"),
        lambda x: F.pad(x, (1, 2, 3, 0), mode="replicate"),
        lambda x: F.pad(x, (1, 1, 0, 2), mode="circular"),
        lambda x: F.pad(x, (-1, 2, 1, -3)),
        # means, pools
        lambda x: x.flatten(2).mean(2).view(-1, 4, 1, 1),
        lambda x: x.permute(0, 2, 3, 1).mean((1, 2))[:, :, None, None],
        lambda x: x.mean(3).mean(2)[..., None, None],
        lambda x: x.mean(2, keepdim=True),
        lambda x: x.amax((2, 3), keepdim=True),
        lambda x: F.adaptive_max_pool2d(x, (2, 4)),
        lambda x: F.max_pool2d(F.pad(x - 1, (0, 1, 1, 0), value=-float("inf")), 3, 2),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
        lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, divisor_override=2),
        lambda x: F.avg_pool2d(x, (5, 3), (1, 2), (2, 0), count_include_pad=False),
        lambda x: F.avg_pool2d(x[:, :, :7, :7], 2, 2, ceil_mode=True, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, (3, 5)),
        lambda x: F.adaptive_avg_pool2d(x, 11),
        # what was refused once
        lambda x: x + x.mean((2, 3), keepdim=True),
        lambda x: x + torch.ones(8, 8),
        lambda x: torch.clamp(x, 0.1, 1.0),
        lambda x: torch.clamp(x, -2.0, -1.0),
        lambda x: torch.clamp(x, max=1.0),
        lambda x: F.pad(x, (1, 1, 1, 1), value=1.0),
        lambda x: x.transpose(1, 2)[:, :4],
        lambda x: F.pixel_shuffle(torch.cat([x, x, x, x], 1), 2),
        lambda x: x.transpose(1, 3).mean((2, 3)).view(-1, 8, 1, 1)[:, :4],
        lambda x: torch.max(x, x.flip(3)),
        lambda x: torch.stack(x.unbind(1)[::-1], 1),
        lambda x: torch.stack([x[:, :, 0], x[:, :, -1]], -1).transpose(2, 3),
        lambda x: torch.stack([x[..., 1], x[..., 0]], 2),
    ],
)
def test_its_many_spellings_are_understood(function):
    model = random_weights(Wrapped(function))
    batch = torch.randn(6, 3, 8, 8)
    with torch.inference_mode():
        assert relative(interpret.logits(trace(model, (3, 8, 8)), batch), model(batch)) < 1e-4


@settings(deadline=None, max_examples=60)
@given(
    size=st.integers(1, 13),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 4),
    padding=st.integers(0, 2),
    ceil_mode=st.booleans(),
    counted=st.booleans(),
)
def test_average_pools_of_any_windows(size, kernel, stride, padding, ceil_mode, counted):
    pool = nn.AvgPool2d(kernel, stride, min(padding, kernel // 2), ceil_mode, counted)
    x = torch.randn(1, 2, size, 7, generator=torch.Generator().manual_seed(size))
    assume(size + 2 * pool.padding >= kernel)
    expected = pool(x)
    shape = tuple(expected.shape[1:])
    call, value = Call("pool", shape, ""), Value("x", tuple(x.shape[1:]))
    made = avg_pool2d(call, value, kernel, stride, pool.padding, ceil_mode, counted)
    assert torch.allclose(computed(made, x), expected, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(size=st.integers(1, 12), wanted=st.integers(1, 9))
def test_adaptive_pools_of_any_windows(size, wanted):
    x = torch.randn(1, 2, size, 5, generator=torch.Generator().manual_seed(size))
    expected = F.adaptive_avg_pool2d(x, (wanted, 3))
    call, value = Call("pool", tuple(expected.shape[1:]), ""), Value("x", tuple(x.shape[1:]))
    made = adaptive_avg_pool2d(call, value, (wanted, 3))
    assert torch.allclose(computed(made, x), expected, atol=1e-5)


def computed(made, x):
    """The value of nodes that read each other, the first of them `x`."""
    values = {"x": x}
    for node in made if isinstance(made, list) else [made]:
        if not isinstance(node, str):
            values[node.name] = node.value(values[node.inputs[0]])
            assert tuple(values[node.name].shape[1:]) == node.shape
    return [*values.values()][-1]


def test_windows_that_divide_evenly_are_one_plain_pool():
    call, value = Call("pool", (4, 4, 4), ""), Value("x", (4, 8, 8))
    made = avg_pool2d(call, value, 2, 2, 0, True, False)
    assert [type(node) for node in (made if isinstance(made, list) else [made])] == [AvgPool]


def test_windows_cut_short_at_the_border_stay_small():
    made = avg_pool2d(Call("pool", (4, 8, 8), ""), Value("x", (4, 8, 8)), 3, 1, 1, False, False)
    assert made[-2].shape == (4, 20, 20)  # twice every entry, twice the border


def test_a_channel_shuffle_is_one_node():
    graph = trace(random_weights(Wrapped(lambda x: torch.channel_shuffle(x, 2))), (3, 8, 8))
    (shuffle,) = graph.of(Select)
    assert (shuffle.axis, shuffle.index) == (0, (0, 2, 1, 3))


def test_what_moves_there_and_back_is_no_node():
    there = random_weights(
        Wrapped(lambda x: x.permute(0, 2, 3, 1).flip(3).permute(0, 3, 1, 2).flip(1))
    )
    plain = trace(random_weights(Wrapped(lambda x: x)), (3, 8, 8))
    assert [n.name for n in trace(there, (3, 8, 8)).nodes] == [n.name for n in plain.nodes]


def test_a_leaky_relu_has_a_population_for_each_sign():
    graph = traced("leaky")
    assert len(graph.of(ReLU)) == 2 * 4 + 2
    assert {node.ceiling for node in graph.of(ReLU)} == {None, 1.0, 0.5}


def test_every_culprit_of_a_gated_block_is_listed():
    def gated(x):
        gate = torch.sigmoid(F.silu(x.mean((2, 3), keepdim=True)))
        return F.gelu(x * gate)

    with pytest.raises(TraceError, match="4 operation") as refusal:
        trace(random_weights(Wrapped(gated)), (3, 8, 8))
    for word in ("silu", "sigmoid", "product", "gelu"):
        assert word in str(refusal.value)


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return x + y


class TwoOutputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = sequence(features=4)

    def forward(self, x):
        return self.inner(x), x


class Constant(nn.Module):
    def forward(self, x):
        return torch.ones(2, CLASSES)


class NoClassifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(3, 4)

    def forward(self, x):
        return self.conv(x)


@pytest.mark.parametrize("model", [TwoInputs(), TwoOutputs(), Constant(), NoClassifier()])
def test_only_classifiers_of_one_image_batch_are_traced(model):
    with pytest.raises(TraceError):
        trace(model, (3, 8, 8))


def test_an_image_size_that_does_not_fit_is_named():
    with pytest.raises(TraceError, match=r"\(3, 9, 9\)"):
        trace(network("average_of_49"), (3, 9, 9))


class Noisy(nn.Module):
    """A factor that every forward pass draws anew."""

    def __init__(self):
        super().__init__()
        self.inner = sequence(features=4)

    def forward(self, x):
        return self.inner(x * random.random())


def test_conversion_compares_with_the_model_itself():
    torch.manual_seed(0)
    with pytest.raises(TraceError, match="differ from the model's"):
        convert(random_weights(Noisy()), torch.randn(8, 3, 8, 8))


def test_hooks_are_noticed():
    model = network("identity")
    model.fc.register_forward_hook(lambda module, inputs, output: output + torch.rand(5))
    with pytest.raises(TraceError):
        convert(model, images("identity"))
