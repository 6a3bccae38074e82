import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet import convert, interpret
from spiking_resnet.graph import Affine, Conv2d, MaxPool, ReLU
from spiking_resnet.trace import TraceError, trace
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
        lambda x: x + 1.0,
        lambda x: x * x,
        lambda x: x * x.mean((2, 3), keepdim=True),
        lambda x: x + x.mean((2, 3), keepdim=True),
        lambda x: torch.clamp(x, 0.1, 1.0),
        lambda x: F.leaky_relu(x),
        lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"),
        lambda x: F.pad(x, (1, 1, 1, 1), value=1.0),
        lambda x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False),
        lambda x: F.adaptive_avg_pool2d(x, 3),
        lambda x: F.interpolate(x, scale_factor=2),
        lambda x: torch.cat([x, x], 2),
        lambda x: x.transpose(2, 3),
        lambda x: x / x.abs().max(),
        lambda x: x.flip(0),
        lambda x: F.adaptive_max_pool2d(x, 1),
        lambda x: torch.max(x, x.flip(3)),
        lambda x: F.conv2d(x, torch.ones(4, 1, 2, 2), padding="same", groups=4),
        lambda x: F.conv2d(x, x[:1].mean((0, 2, 3)).view(1, 4, 1, 1).expand(4, 4, 1, 1)),
    ],
)
def test_nothing_else_slips_through(function):
    with pytest.raises(TraceError, match=r"test_trace\.py:"):
        trace(random_weights(Wrapped(function)), (3, 8, 8))


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
    ],
)
def test_its_many_spellings_are_understood(function):
    model = random_weights(Wrapped(function))
    batch = torch.randn(6, 3, 8, 8)
    with torch.inference_mode():
        assert relative(interpret.logits(trace(model, (3, 8, 8)), batch), model(batch)) < 1e-4


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
    """Dropout that evaluation mode does not turn off."""

    def __init__(self):
        super().__init__()
        self.inner = sequence(features=4)

    def forward(self, x):
        return self.inner(F.dropout(x, 0.5))


def test_conversion_compares_with_the_model_itself():
    torch.manual_seed(0)
    with pytest.raises(TraceError, match="differ from the model's"):
        convert(random_weights(Noisy()), torch.randn(8, 3, 8, 8))


def test_hooks_are_noticed():
    model = network("identity")
    model.fc.register_forward_hook(lambda module, inputs, output: output + torch.rand(5))
    with pytest.raises(TraceError):
        convert(model, images("identity"))
