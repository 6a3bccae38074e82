import json

import pytest
import torch

from spiking_resnet.ann.resnet import NAMES, PadShortcut, ResNet, ResNetConfig, build, infer_config


def count(model):
    return sum(value.numel() for value in model.parameters())


@pytest.mark.parametrize(
    ("name", "millions"),
    [("resnet20", 0.27), ("resnet32", 0.46), ("resnet44", 0.66), ("resnet56", 0.85),
     ("resnet110", 1.7)],
)  # fmt: skip
def test_parameters_are_those_of_he_table_6(name, millions):
    digits = 2 if millions < 1 else 1
    assert round(count(build(name, shortcut="A")) / 1e6, digits) == millions


def test_projections_add_what_they_should():
    plain = count(build("resnet20", shortcut="A"))
    option_b = 16 * 32 + 2 * 32 + 32 * 64 + 2 * 64
    assert count(build("resnet20", shortcut="B")) == plain + option_b
    assert count(build("resnet20", shortcut="paper")) == plain + option_b + 16 * 16 + 2 * 16


@pytest.mark.parametrize("name", [*NAMES, "resnet14"])
@pytest.mark.parametrize("size", [28, 32])
def test_logits_have_one_row_per_image(name, size):
    model = build(name, classes=7, in_channels=1, width=8).eval()
    with torch.no_grad():
        assert model(torch.randn(2, 1, size, size)).shape == (2, 7)


def test_halves_the_map_twice_and_doubles_the_channels():
    model = build("resnet8", width=8).eval()
    shapes = []
    for layer in (model.layer1, model.layer2, model.layer3):
        layer.register_forward_hook(lambda _module, _inputs, out: shapes.append(list(out.shape)))
    model(torch.randn(1, 3, 32, 32))
    assert shapes == [[1, 8, 32, 32], [1, 16, 16, 16], [1, 32, 8, 8]]


def test_option_a_is_subsampling_and_zero_channels():
    x = torch.arange(2 * 4 * 4, dtype=torch.float32).view(1, 2, 4, 4)
    out = PadShortcut(2, 4, 2)(x)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 0].tolist() == out[0, 3].tolist() == [[0, 0], [0, 0]]
    assert out[0, 1].tolist() == [[0, 2], [8, 10]]
    assert out[0, 2].tolist() == [[16, 18], [24, 26]]


def test_averaged_shortcuts_see_every_pixel():
    block = build("resnet8", shortcut="paper-average", width=4).eval().layer2[0]
    torch.nn.init.zeros_(block.conv2.weight)  # the branch gives 0, as bn2 is fresh
    torch.nn.init.ones_(block.shortcut[1].weight)
    x = torch.arange(4.0 * 3 * 5).view(1, 4, 3, 5)
    means = torch.stack([
        torch.stack([x[0, :, r : r + 2, c : c + 2].mean((1, 2)).sum() for c in (0, 2, 4)])
        for r in (0, 2)
    ])  # fmt: skip
    scale = (1 + block.shortcut[2].eps) ** -0.5
    assert torch.allclose(block(x)[0], (means * scale).expand(8, 2, 3))
    assert count(build("resnet20", shortcut="paper-average")) == count(build("resnet20"))


def test_option_a_block_adds_its_input():
    torch.manual_seed(0)
    block = build("resnet8", shortcut="A", width=4).eval().layer2[0]
    torch.nn.init.zeros_(block.conv2.weight)  # the branch gives 0, as bn2 is fresh
    x = torch.rand(1, 4, 6, 6)
    expected = torch.zeros(1, 8, 3, 3)
    expected[:, 2:6] = x[:, :, ::2, ::2]
    assert torch.equal(block(x), expected)


def test_relu_after_every_sum_or_only_after_a_stage():
    def negative_after(model):
        seen = []
        for block in model.layer1:
            block.register_forward_hook(lambda _m, _i, out: seen.append(bool((out < 0).any())))
        model.eval()(torch.randn(2, 3, 32, 32))
        return seen

    torch.manual_seed(0)
    assert negative_after(build("resnet20", width=4)) == [False, False, False]
    assert negative_after(build("resnet20", width=4, relu_after_sum="stage")) == [True, True, False]


CONFIGS = [
    ResNetConfig(depth=depth, block=block, shortcut=shortcut, width=width, classes=classes,
                 in_channels=channels)
    for depth, block in ((8, "basic"), (20, "basic"), (11, "bottleneck"), (29, "bottleneck"))
    for shortcut in ("paper", "paper-average", "A", "B")
    for width, classes, channels in ((4, 10, 3), (6, 3, 1))
    # the first bottleneck block always changes shape, so B there is the paper's network
    if not (block == "bottleneck" and shortcut == "B")
] + [
    ResNetConfig(depth=14, width=4, stem_width=16, relu_after_sum="stage", pool_grid=2),
    ResNetConfig(depth=8, width=8, stem_width=4),
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_config_is_read_off_the_weights_and_survives_json(config):
    model = ResNet(config)
    assert infer_config(model.state_dict()) == config
    assert ResNetConfig(**json.loads(json.dumps(config.to_json()))) == config
    assert model.eval()(torch.randn(2, config.in_channels, 32, 32)).shape == (2, config.classes)


def test_bottleneck_b_is_the_papers_network():
    model = build("resnet11", block="bottleneck", shortcut="B", width=4)
    twin = ResNet(infer_config(model.state_dict()))
    twin.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 16, 16)
    assert torch.equal(twin.eval()(x), model.eval()(x))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": 18}, r"6n\+2"),
        ({"depth": 2}, r"6n\+2"),
        ({"depth": 1208}, "depth is at most 1202, got 1208"),
        ({"depth": 8, "block": "bottleneck"}, r"9n\+2"),
        ({"shortcut": "C"}, "shortcut must be one of paper, paper-average, A, B"),
        ({"block": "wide"}, "block"),
        ({"classes": 0}, "classes"),
        ({"width": -1}, "width"),
        ({"shortcut": "A", "stem_width": 64}, "drop"),
    ],
)
def test_impossible_configs_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        ResNetConfig(**arguments)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="resnet20"):
        build("vgg16")


def test_pool_that_does_not_fit_is_refused():
    model = build("resnet8", width=4, pool_grid=2)
    with pytest.raises(ValueError, match="multiples of 8"):
        model(torch.randn(2, 3, 28, 28))


@pytest.mark.parametrize("damage", ["missing", "axes", "features"])
def test_other_weights_are_refused_by_key(damage):
    state = dict(build("resnet8", width=4).state_dict())
    if damage == "missing":
        del state["conv1.weight"]
    else:
        state["linear.weight"] = torch.zeros(10) if damage == "axes" else torch.zeros(10, 33)
    with pytest.raises(ValueError, match=r"conv1\.weight|linear\.weight"):
        infer_config(state)


@pytest.mark.parametrize("config", CONFIGS[:6], ids=str)
def test_exports(config):
    example = torch.randn(2, config.in_channels, 32, 32)
    model = ResNet(config).eval()
    exported = torch.export.export(model, (example,))
    assert torch.allclose(exported.module()(example), model(example), atol=1e-5)
