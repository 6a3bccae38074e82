"""Single operations inside a network: right as traced and as spikes, or refused by their name."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from spiking_resnet import InputError, as_module, convert, evaluate, load, save, simulate
from spiking_resnet.capture.module import TraceError, trace
from spiking_resnet.conversion.methods import hu2021
from spiking_resnet.graph import Fire, Linear, ReLU, interpret
from spiking_resnet.images import as_maps

CHANNELS = torch.tensor([0.6, -0.2, 0.9, 0.4]).view(1, 4, 1, 1)


class Net(nn.Module):
    """A function of what a convolution makes, and a classifier."""

    def __init__(self, function, shape=(3, 6, 6), seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.function = nn.Conv2d(shape[0], 4, 3, padding=1), function
        with torch.no_grad():
            features = self.function(self.stem(torch.zeros(2, *shape))).flatten(1)
        self.fc = nn.Linear(features.shape[1], 3)

    def forward(self, x):
        return self.fc(self.function(self.stem(x)).flatten(1))


def images(count=6, shape=(3, 6, 6), seed=1):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed))


def relative(found, expected):
    return float((found - expected).abs().max() / expected.abs().max())


def check_traced(net, shape=(3, 6, 6)):
    """The graph of a network whose traced logits are its own."""
    batch = images(shape=shape)
    graph = trace(net.eval(), shape)
    with torch.inference_mode():
        assert relative(interpret.logits(graph, as_maps(batch)), net(batch)) < 1e-5
    return graph


def check_spiking(net, shape=(3, 6, 6), within=0.02, **options):
    """The spiking network of one whose spiking logits converge to its own."""
    batch = images(shape=shape)
    method = hu2021(percentile=100, readout="membrane", steps=512, sum_bits=24, **options)
    snn = convert(net.eval(), batch, method)
    run = simulate(snn, batch, 512, record=(64, 512))
    with torch.inference_mode():
        expected = net(batch)
    early, late = (float((each - expected).norm() / expected.norm()) for each in run.logits)
    assert late < within
    assert late < early
    return snn


UP = torch.tensor(0.4)
ROUNDED = {  # a ReLU with ceiling, each in another spelling
    "clamp": lambda x: torch.clamp(x, torch.zeros(()), UP),
    "clamp_max": lambda x: F.relu(x).clamp(max=UP),
    "clamp_max_number": lambda x: F.relu(x).clamp_max(0.4),
    "minimum": lambda x: torch.minimum(F.relu(x), UP),
    "min": lambda x: torch.min(UP, F.relu(x)),
    "where_below": lambda x: torch.where((y := F.relu(x)) < UP, y, UP),
    "pact": lambda x: 0.5 * (x.abs() - (x - UP).abs() + UP),
    "twice": lambda x: UP - F.relu(UP - F.relu(x)),
    "relu6": lambda x: UP / 6 * F.relu6(6 / UP * x),
    "unit": lambda x: torch.clamp(x / UP, 0, 1) * UP,
    "hardtanh": lambda x: F.hardtanh(x, 0.0, 0.4),
}
PLAIN = {  # a ReLU, each in another spelling
    "where": lambda x: torch.where(x > 0, x, torch.zeros_like(x)),
    "where_not": lambda x: torch.where(x <= 0, 0.0, x),
    "mask": lambda x: x * (x > 0),
    "float_mask": lambda x: (x > 0).float() * x,
    "masked_fill": lambda x: x.masked_fill(x < 0, 0.0),
    "maximum": lambda x: torch.maximum(x, torch.zeros_like(x)),
    "max": lambda x: torch.max(x, x.new_zeros(())),
    "abs": lambda x: (x + x.abs()) / 2,
    "threshold": lambda x: F.threshold(x, 0, 0),
    "leaky": lambda x: F.leaky_relu(x, 0.0),
    "twice": lambda x: F.relu(F.relu(x)),
}


@pytest.mark.parametrize("name", ROUNDED)
def test_every_spelling_of_a_clipped_relu_is_one_population(name):
    (relu,) = check_traced(Net(ROUNDED[name])).of(ReLU)
    assert relu.ceiling == pytest.approx(0.4)


@pytest.mark.parametrize("name", PLAIN)
def test_every_spelling_of_a_relu_is_one_population(name):
    (relu,) = check_traced(Net(PLAIN[name])).of(ReLU)
    assert relu.ceiling is None


PIECEWISE = {
    "clamp_channels": lambda x: torch.clamp(x, torch.zeros(4, 1, 1), CHANNELS.abs()),
    "clamp_either_side": lambda x: torch.clamp(x, CHANNELS - 0.5, CHANNELS),
    "clamp_crossed": lambda x: torch.clamp(x, CHANNELS, 0.3 + 0 * CHANNELS),
    "clamp_above": lambda x: x.clamp(0.1, 0.5),
    "clamp_below": lambda x: x.clamp(-0.5, -0.1),
    "clamp_min": lambda x: x.clamp(min=0.2),
    "clamp_max": lambda x: x.clamp(max=0.2),
    "minimum_channels": lambda x: torch.minimum(F.relu(x), CHANNELS.abs()),
    "maximum_channels": lambda x: torch.maximum(x, CHANNELS),
    "abs": torch.abs,
    "maxout": lambda x: torch.maximum(*x.chunk(2, 1)),
    "minout": lambda x: torch.min(*x.chunk(2, 1)),
    "where_larger": lambda x: torch.where((y := x[:, :2]) > (z := x[:, 2:]), y, z),
    "threshold": lambda x: F.threshold(x, 0.2, 0.2),
    "maximum_spread": lambda x: torch.maximum(x, x.mean((2, 3), keepdim=True)),
}


@pytest.mark.parametrize("name", PIECEWISE)
def test_maxima_and_minima_are_computed_with_relus(name):
    check_traced(Net(PIECEWISE[name]))


@pytest.mark.parametrize("name", ["clamp_either_side", "clamp_crossed", "maxout", "clamp_below"])
def test_maxima_and_minima_converge_as_spikes(name):
    check_spiking(Net(lambda x: F.relu(PIECEWISE[name](x) + 0.3)))


@pytest.mark.parametrize("name", ["pact", "minimum", "unit"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_clipped_relus_converge_as_spikes(name, per_channel):
    snn = check_spiking(Net(ROUNDED[name]), per_channel=per_channel)
    assert len(snn.neurons) == 1


ARITHMETIC = {
    "add_alpha": lambda x: torch.add(x, x.flip(3), alpha=-0.5),
    "sub_alpha": lambda x: torch.sub(torch.ones(4, 1, 1), x, alpha=3),
    "rsub_alpha": lambda x: torch.rsub(x, 2.0, alpha=0.5),
    "addcmul": lambda x: torch.addcmul(x, CHANNELS, x.flip(2), value=0.5),
    "addcmul_constants": lambda x: torch.addcmul(x, CHANNELS, CHANNELS),
    "addcdiv": lambda x: torch.addcdiv(x, x.flip(2), CHANNELS, value=2),
    "batch_of_constants": lambda x: x + torch.ones(x.size(0), 4, 1, 1) * CHANNELS,
    "whole_constants": lambda x: x * (CHANNELS + torch.zeros(4, 6, 6)),
    "uniform_map": lambda x: x + torch.full((6, 6), 0.5),
    "one_constant": lambda x: x * torch.full((1, 1, 1, 1), 3.0),
    "full_like": lambda x: x - torch.full_like(x, 0.25) / 2,
    "means_added": lambda x: x + x.mean((2, 3), keepdim=True),
    "channel_mean_added": lambda x: x - x.mean(1, keepdim=True),
    "column_added": lambda x: x.mean(3, keepdim=True) - x,
    "constant_spreads": lambda x: x.mean((2, 3), keepdim=True) + torch.ones(4, 6, 6),
    "divided": lambda x: torch.true_divide(x, CHANNELS).divide(2),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_arithmetic_with_constants_of_many_shapes(name):
    check_traced(Net(ARITHMETIC[name]))


JOINED = {
    "zeros_behind": lambda x: torch.cat((x, torch.zeros_like(x)), 1),
    "zeros_before": lambda x: torch.cat((torch.zeros(x.size(0), 2, 6, 6), x), 1),
    "zeros_between": lambda x: torch.cat((x, x.new_zeros(2, 3, 6, 6), -x, torch.zeros_like(x)), 1),
    "ones": lambda x: torch.cat((torch.ones_like(x), x), 1),
    "features": lambda x: torch.cat((x.mean((2, 3)), torch.tensor([[1.0, 2.0]]).repeat(2, 1)), 1),
    "scaled": lambda x: torch.cat((x, x.mul(0), x * 0.5, x + 1), 1),
}


@pytest.mark.parametrize("name", JOINED)
def test_constants_are_joined_with_values(name):
    def function(x):
        return JOINED[name](F.relu(x))

    net = Net(function)
    graph = trace(net.eval(), (3, 6, 6))
    batch = images(2)  # some constants are made for two images
    with torch.inference_mode():
        assert relative(interpret.logits(graph, batch), net(batch)) < 1e-5


def test_zeros_joined_with_spikes_stay_spikes():
    graph = trace(Net(lambda x: JOINED["zeros_behind"](F.relu(x))), (3, 6, 6))
    assert [type(node).__name__ for node in graph.nodes][2:] == [
        "ReLU",
        "Pad",
        "Flatten",
        "Linear",
        "Output",
    ]


@pytest.mark.parametrize("name", ["ones", "scaled"])
@pytest.mark.parametrize("per_channel", [False, True])
def test_joined_constants_converge_as_spikes(name, per_channel):
    check_spiking(Net(lambda x: F.relu(JOINED[name](F.relu(x)))), per_channel=per_channel)


REDUCED = {
    "blocks": lambda x: x.view(-1, 4, 3, 2, 2, 3).mean((3, 5)),
    "block_sums": lambda x: x.reshape(-1, 4, 3, 2, 6).sum(3),
    "channels": lambda x: x.mean(1),
    "channels_kept": lambda x: x.sum(1, keepdim=True),
    "groups": lambda x: x.view(-1, 2, 2, 6, 6).mean(1),
    "groups_and_places": lambda x: x.unflatten(1, (2, 2)).mean((2, 3)),
    "rows": lambda x: x.mean(2),
    "columns": lambda x: x.sum(3),
    "everything": lambda x: x.mean((1, 2, 3)).unsqueeze(1),
    "five": lambda x: x.unsqueeze(2).mean(2),
    "five_channels": lambda x: x.unsqueeze(1).mean((1, 2)),
    "flattened": lambda x: x.flatten(1).view(-1, 4, 36).mean(2),
    "features": lambda x: x.mean((2, 3)).view(-1, 2, 2).mean(2),
    "feature_sums": lambda x: x.mean((2, 3)).sum(1, keepdim=True),
    "stacked": lambda x: torch.stack([x, x.flip(3)]).mean(0),
    "stacked_inside": lambda x: torch.stack([x, x.flip(3)], 1).sum(1),
    "largest_of_blocks": lambda x: x.view(-1, 4, 3, 2, 6).amax(3),
    "channels_last": lambda x: x.permute(0, 2, 3, 1).mean((1, 2)),
}


@pytest.mark.parametrize("name", REDUCED)
def test_means_and_sums_over_any_axes(name):
    check_traced(Net(REDUCED[name]))


@pytest.mark.parametrize("name", ["blocks", "channels", "groups_and_places", "stacked"])
def test_means_over_any_axes_converge_as_spikes(name):
    check_spiking(Net(lambda x: F.relu(REDUCED[name](F.relu(x)))))


PRODUCTS = {
    "matmul": lambda x, w, b: x @ w.T + b,
    "addmm": lambda x, w, b: torch.addmm(b, x, w.T, beta=0.5, alpha=2),
    "einsum": lambda x, w, b: torch.einsum("nc,kc->nk", x, w),
    "mm": lambda x, w, b: torch.mm(x, w.t()),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_matrix_products_are_linear_layers(name):
    weight = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
    net = Net(lambda x: PRODUCTS[name](x.mean((2, 3)), weight, torch.ones(5)))
    assert len(check_traced(net).of(Linear)) == 2


LAYERS = {
    "transposed": nn.ConvTranspose2d(4, 6, (3, 2), padding=(1, 0), dilation=(1, 2)),
    "transposed_groups": nn.ConvTranspose2d(4, 6, 3, padding=2, groups=2),
    "constant_pad": nn.ConstantPad2d((1, 0, -1, 2), 0.5),
    "instance_norm": nn.InstanceNorm2d(4, affine=True, track_running_stats=True),
    "indices": nn.Sequential(nn.ReLU(), nn.MaxPool2d(2, return_indices=False)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_layers_with_a_plain_counterpart(name):
    torch.manual_seed(3)
    layer = LAYERS[name]
    for key, buffer in layer.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)
    check_traced(Net(layer.eval()))


REFUSALS = {
    "rounded division": (lambda x: torch.div(x, 2, rounding_mode="floor"), "rounded by 'floor'"),
    "floor division": (lambda x: x // 2, "div"),
    "sum into another": (lambda x: torch.add(x, 1, out=torch.empty_like(x)), "add"),
    "jump": (lambda x: torch.where(x > 0.5, x, 0.0), "jumps"),
    "step": (lambda x: (x > 0).float() + x, "step"),
    "jumping threshold": (lambda x: F.threshold(x, 0.1, 0.0), "threshold at 0.1"),
    "gate": (lambda x: x * x, "gate"),
    "quotient": (lambda x: 1 / (x.abs() + 1), "activation|reciprocal"),
    "map of constants": (lambda x: x + torch.rand(6, 6), r"a constant of shape \(6, 6\)"),
    "map joined": (lambda x: torch.cat((x, torch.rand(2, 1, 6, 6)), 1), "joining a constant"),
    "attention": (lambda x: x.flatten(2) @ x.flatten(2).transpose(1, 2), "attention"),
    "whole mean": (lambda x: x - x.mean(), "images"),
    "images mixed": (lambda x: x - x.mean(0, keepdim=True), "images"),
    "stride": (nn.ConvTranspose2d(4, 4, 2, stride=2), "transposed convolution of stride"),
    "three dimensions": (
        lambda x: F.avg_pool3d(x.unsqueeze(1), (3, 1, 1)).squeeze(1),
        "avg_pool3d",
    ),
    "padded in five": (lambda x: F.pad(x.unsqueeze(1), (0, 0, 0, 0, 1, 1)).squeeze(1), "unsqueeze"),
    "many in one": (nn.LocalResponseNorm(3), r"1 operation.*\n.*LocalResponseNorm: .*BatchNorm"),
    "own statistics": (nn.InstanceNorm2d(4), "InstanceNorm"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_has_no_counterpart_is_refused_by_name(name):
    function, word = REFUSALS[name]
    with pytest.raises(TraceError, match=word):
        trace(Net(function).eval(), (3, 6, 6))


POOLED = {
    "pool_and_relu": lambda x: F.relu(F.avg_pool2d(F.relu(x), 2)),
    "pool_and_relu6": lambda x: F.relu6(F.avg_pool2d(F.relu(x), 3)),
    "two_pools": lambda x: F.relu(F.avg_pool2d(F.avg_pool2d(F.relu(x), 2), 3)),
}


@pytest.mark.parametrize("name", POOLED)
@pytest.mark.parametrize("per_channel", [False, True])
def test_neurons_that_read_spikes_of_others_keep_their_thresholds(name, per_channel):
    """A threshold of 0.4 incoming spikes does not fit the grid of those who sent them."""
    snn = check_spiking(Net(POOLED[name]), per_channel=per_channel)
    assert all(bool((node.neuron.threshold > 0).all()) for node in snn.of(Fire))


SIGNAL = (3, 12)  # [C, L]


class Signal(nn.Module):
    """A network of signals [N, C, L]."""

    def __init__(self, *layers):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(*layers).eval()
        self.fc = nn.Linear(self.layers(torch.zeros(2, *SIGNAL)).flatten(1).shape[1], 3)

    def forward(self, x):
        return self.fc(self.layers(x).flatten(1))


class Own(nn.Module):
    """A function as a layer."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


SIGNALS = {
    "conv": [nn.Conv1d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv1d(4, 6, 3, 2, groups=2), nn.ReLU()],
    "same": [nn.Conv1d(3, 4, 3, padding="same", dilation=2), nn.BatchNorm1d(4), nn.ReLU()],
    "pools": [nn.Conv1d(3, 4, 3), nn.ReLU(), nn.MaxPool1d(2), nn.AvgPool1d(3, 2, 1)],
    "adaptive": [nn.Conv1d(3, 4, 3), nn.PReLU(4), nn.AdaptiveAvgPool1d(3)],
    "mean": [nn.Conv1d(3, 4, 3), nn.ReLU6(), Own(lambda x: x.mean(-1))],
    "sums": [nn.Conv1d(3, 3, 1), Own(lambda x: F.relu(x + torch.tensor([[1.0], [2.0], [3.0]])))],
    "joined": [nn.Conv1d(3, 3, 1), Own(lambda x: torch.cat((F.relu(x), torch.zeros_like(x)), 1))],
    "padded": [nn.ConstantPad1d((1, 2), 0.5), nn.Conv1d(3, 4, 3), nn.ReLU(), nn.Upsample(30)],
    "reflected": [nn.ReflectionPad1d(2), nn.Conv1d(3, 4, 3), nn.LeakyReLU(), nn.Flatten()],
}


@pytest.mark.parametrize("name", SIGNALS)
def test_networks_of_signals(name):
    check_traced(Signal(*SIGNALS[name]), SIGNAL)


@pytest.mark.parametrize("name", ["conv", "pools"])
def test_networks_of_signals_converge_as_spikes(name):
    check_spiking(Signal(*SIGNALS[name]), SIGNAL)


def perceptron():
    torch.manual_seed(0)
    hidden = [nn.Linear(20, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(12, 3)).eval()


def test_a_multilayer_perceptron_of_features():
    check_traced(perceptron(), (20,))
    check_spiking(perceptron(), (20,))


def test_features_go_through_all_verbs(tmp_path):
    """[N, F] is taken wherever images are; [N, F, 1, 1] is the same to the spiking network."""
    net, batch = perceptron(), images(8, (20,))
    snn = convert(net, [(batch[:5], torch.zeros(5)), batch[5:]], hu2021(steps=32))
    assert snn.input.shape == (20, 1, 1)
    wanted = simulate(snn, batch.view(8, 20, 1, 1), 32).logits
    assert torch.equal(simulate(snn, batch, 32).logits, wanted)
    curve = evaluate(snn, [(batch, net(batch).argmax(1))], steps=(32,))
    assert curve.ann_accuracy == 1
    assert torch.equal(as_module(snn, steps=32)(batch), wanted[0])
    save(snn, tmp_path / "snn.safetensors")
    assert torch.equal(simulate(load(tmp_path / "snn.safetensors"), batch, 32).logits, wanted)


def test_images_of_another_shape_are_still_refused():
    snn = convert(perceptron(), images(8, (20,)), hu2021(steps=8))
    with pytest.raises(InputError, match="20"):
        simulate(snn, images(2, (21,)), 8)
    with pytest.raises(InputError, match="shape"):
        simulate(snn, torch.zeros(20), 8)


class Chosen(nn.Module):
    """Channels by a buffer, as a boolean mask or as places."""

    def __init__(self, choose):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.next, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3), nn.Linear(4, 3)
        self.register_buffer("kept", torch.tensor([1.0, 0.0, 1.0, 1.0]))
        self.choose = choose

    def forward(self, x):
        chosen = self.choose(self.stem(x), self.kept)
        return self.fc(F.relu(self.next(F.relu(chosen))).mean((2, 3)))


@pytest.mark.skipif(
    torch.__version__ < "2.15", reason="torch 2.11 exports no channels that masks choose"
)
@pytest.mark.parametrize(
    "choose",
    [
        lambda x, kept: x[:, kept.bool()],
        lambda x, kept: x.index_select(1, kept.nonzero().flatten()),
    ],
)
def test_channels_are_chosen_by_buffers(choose):
    check_traced(Chosen(choose))
