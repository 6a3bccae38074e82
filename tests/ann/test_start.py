import hashlib
import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from spiking_resnet import files
from spiking_resnet.ann import checkpoint, training_run
from spiking_resnet.ann.activation import QCFS
from spiking_resnet.ann.checkpoint import CheckpointError, load
from spiking_resnet.ann.data import NORMALISATIONS, DataError, load_dataset
from spiking_resnet.ann.initial_weights import begin, percentiles, start_from
from spiking_resnet.ann.recipe import TrainConfig
from spiking_resnet.ann.resnet import ResNet, ResNetConfig
from spiking_resnet.ann.train import train

MODEL = ResNetConfig(depth=8, classes=10, in_channels=1, width=8)
TRAIN = load_dataset("digits", "train").subset(300)
TEST = load_dataset("digits", "test").subset(100)


compiler = pytest.mark.skipif(
    shutil.which("g++") is None, reason="torch.compile needs a C++ compiler"
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "relu.safetensors"
    whole = load_dataset("digits", "train")
    train(TrainConfig(MODEL, epochs=12, batch_size=32), whole, TEST, path)
    return path


def finetune(path, out, progress=None, **changes):
    start = start_from(path)
    settings = {"model": start.config("qcfs", 4), "recipe": "finetune", "epochs": 2}
    config = TrainConfig(**{**settings, "batch_size": 64, **changes})
    return train(config, TRAIN, TEST, out, progress=progress, start=start)


def test_percentiles_of_what_modules_give():
    class Doubling(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    model = torch.nn.Sequential(Doubling(), torch.nn.ReLU())
    values = torch.arange(-50.0, 50.0).view(10, 10)
    found = percentiles(model, ["0", "1"], values.split(3), percent=90)
    assert found == {"0": 2 * 39.0, "1": 2 * 39.0}
    assert not model[0]._forward_hooks


@pytest.mark.sweep
def test_it_begins_with_the_weights_and_percentiles_for_thresholds(trained):
    start = start_from(trained)
    model = ResNet(start.config("qcfs", 4))
    begin(model, start, TRAIN, seed=0)
    own, theirs = model.state_dict(), start.model.state_dict()
    assert all(torch.equal(own[key], value) for key, value in theirs.items())
    thresholds = [key for key in own if key not in theirs]
    populations = [name for name, module in model.named_modules() if isinstance(module, QCFS)]
    assert thresholds == [f"{name}.threshold" for name in populations]
    seen = TRAIN.subset(256, 0)
    largest = percentiles(start.model, populations, (x for x, _ in seen.loader(64)), 100)
    for name, value in largest.items():
        assert 0 < float(own[f"{name}.threshold"]) <= value


@pytest.mark.sweep
def test_one_epoch_repairs_what_quantisation_broke(trained, tmp_path):
    data = load_dataset("digits", "train"), load_dataset("digits", "test")
    start = start_from(trained)
    quantised = ResNet(start.config("qcfs", 1))
    begin(quantised, start, data[0], seed=0)
    before = training_run.accuracy(quantised, data[1], torch.device("cpu"))
    config = TrainConfig(quantised.config, recipe="finetune", epochs=1, batch_size=16)
    after = train(config, *data, tmp_path / "q.safetensors", start=start).accuracy
    assert after > before + 0.05


def test_the_file_says_what_it_was_started_from_and_loads(trained, tmp_path):
    out = tmp_path / "q.safetensors"
    result = finetune(trained, out)
    found = load(out)
    assert found.config == replace(MODEL, activation="qcfs", levels=4)
    assert training_run.accuracy(found.model, TEST, torch.device("cpu")) == result.accuracy
    facts = found.metadata["from"]
    assert facts["file"] == "relu.safetensors"
    assert facts["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()
    assert facts["accuracy"] == load(trained).metadata["accuracy"]
    assert facts["command"] == load(trained).metadata["command"]
    again = ResNet(replace(found.config, levels=8))
    begin(again, start_from(out), TRAIN, seed=0)  # thresholds are there: they are kept
    trained_thresholds = found.model.state_dict()["relu.threshold"]
    assert torch.equal(again.state_dict()["relu.threshold"], trained_thresholds)


def test_a_resumed_fine_tuning_ends_with_the_same_bits(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WORK_PER_SAVING", 0.0)
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    finetune(trained, whole)

    def stop(now):
        if now.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(trained, resumed, stop)
    with pytest.raises(CheckpointError, match=r"from .*now None"):
        train(
            TrainConfig(start_from(trained).config("qcfs", 4), "finetune", 2, 64),
            TRAIN, TEST, resumed,
        )  # fmt: skip
    other, start = replace(TRAIN, normalisation=NORMALISATIONS["none"]), start_from(trained)
    config = TrainConfig(start.config("qcfs", 4), "finetune", 2, 64)
    with pytest.raises(CheckpointError, match="normalisation"):
        train(config, other, TEST, resumed, start=start)
    finetune(trained, resumed)
    first, second = load(whole).model.state_dict(), load(resumed).model.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())


def test_thresholds_decay_by_a_rate_of_their_own(trained, tmp_path):
    config = TrainConfig(start_from(trained).config("qcfs", 4), "finetune", 2, 64)
    groups = training_run.Run(config, TRAIN, tmp_path / "q.safetensors").optimizer.param_groups
    assert [group["weight_decay"] for group in groups] == [5e-4, 0.0, 5e-3]
    assert all(value.dim() == 0 for value in groups[2]["params"])
    assert len(groups[2]["params"]) == 7  # a resnet8's ReLUs
    plain = training_run.Run(TrainConfig(MODEL, "finetune"), TRAIN, tmp_path / "r.safetensors")
    assert len(plain.optimizer.param_groups) == 2


def test_the_percentile_sets_where_thresholds_begin(trained):
    low, high = (ResNet(start_from(trained).config("qcfs", 4)) for _ in range(2))
    begin(low, start_from(trained, percentile=90), TRAIN, seed=0)
    begin(high, start_from(trained, percentile=99.9), TRAIN, seed=0)
    for name, value in low.named_parameters():
        if name.endswith("threshold"):
            assert value < high.get_parameter(name)
    with pytest.raises(ValueError, match="percentile"):
        start_from(trained, percentile=0)


@pytest.mark.parametrize("changes", [{}, {"block": "bottleneck", "depth": 11},
                                     {"relu_after_sum": "stage"}, {"shortcut": "A"}])  # fmt: skip
@pytest.mark.parametrize("units", [1, 2, 3])
def test_a_deeper_network_begins_as_the_same_function(tmp_path, changes, units):
    config = replace(MODEL, **changes)
    torch.manual_seed(0)
    shallow, images = ResNet(config), torch.randn(3, 1, 8, 8)
    if changes.get("depth") is None:  # two blocks a stage: the second is moved as well
        shallow = ResNet(replace(config, depth=14))
    for _ in range(3):
        shallow.train()(4 * images)  # statistics of BatchNorm
    checkpoint.save(tmp_path / "s.safetensors", shallow, {})
    start = start_from(tmp_path / "s.safetensors")
    unit = 9 if "depth" in changes else 6
    deep = ResNet(start.config("relu", 8, start.model.config.depth + units * unit))
    begin(deep, start, TRAIN, seed=0)
    with torch.no_grad():
        assert torch.equal(deep.eval()(images), shallow.eval()(images))
        assert torch.equal(deep.train()(images), shallow.train()(images))
    deep.zero_grad()
    deep(images).square().sum().backward()
    last = "bn3" if unit == 9 else "bn2"
    gradients = [module.weight.grad for name, module in deep.named_modules() if name.endswith(last)]
    assert len(gradients) == 3 * deep.config.blocks_per_stage
    assert all(gradient.abs().max() > 0 for gradient in gradients)  # every block learns


def test_only_relu_networks_become_deeper(trained, tmp_path):
    start = start_from(trained)
    with pytest.raises(CheckpointError, match="only ReLU networks become deeper"):
        begin(ResNet(start.config("qcfs", 4, 14)), start, TRAIN, seed=0)
    shallow = ResNet(start.config("relu", 8))
    checkpoint.save(tmp_path / "deep.safetensors", ResNet(start.config("relu", 8, 14)), {})
    with pytest.raises(CheckpointError, match="may be deeper"):
        begin(shallow, start_from(tmp_path / "deep.safetensors"), TRAIN, seed=0)


def test_other_architectures_are_refused(trained):
    start = start_from(trained)
    with pytest.raises(CheckpointError, match=r"relu.safetensors holds .*only activation"):
        begin(ResNet(replace(MODEL, width=16)), start, TRAIN, seed=0)


def test_files_from_before_there_were_activations_load(trained, tmp_path):
    with safe_open(trained, "pt") as file:
        described = json.loads(file.metadata()["spiking_resnet"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    del described["config"]["activation"], described["config"]["levels"]
    old = tmp_path / "old.safetensors"
    save_file(tensors, old, {"spiking_resnet": json.dumps(described)})
    assert load(old).config == MODEL
    assert checkpoint.load(old).config.activation == "relu"


@pytest.mark.parametrize("wrong", [{"activation": "gelu"}, {"levels": 0}])
def test_configurations_that_describe_nothing(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ResNetConfig(**wrong)


def test_distance_to_a_teacher_by_hand():
    logits, opinion = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    # softened by 2: probabilities e/(1+e), 1/(1+e) against 1/(1+e^2), e^2/(1+e^2)
    own = torch.tensor([[1.0, 0.0]]).softmax(1)
    wanted = torch.tensor([[0.0, 2.0]]).softmax(1)
    expected = 4 * float((wanted * (wanted / own).log()).sum())
    found = training_run.distance(logits, opinion, 2.0)
    assert float(found) == pytest.approx(expected, rel=1e-6)
    assert float(training_run.distance(opinion, opinion + 3, 2.0)) == pytest.approx(0, abs=1e-6)


@pytest.mark.sweep
def test_a_network_learns_what_its_teacher_says(trained, tmp_path):
    teacher = start_from(trained)
    images = torch.cat([x for x, _ in TEST.loader(100)])
    settings = TrainConfig(MODEL, epochs=8, batch_size=32)

    def distance(**given):
        out = tmp_path / "taught.safetensors"
        train(settings, TRAIN, TEST, out, overwrite=True, **given)
        found = load(out)
        with torch.inference_mode():
            return float(training_run.distance(found.model(images), teacher.model(images), 4.0))

    alone = distance()
    assert "teacher" not in load(tmp_path / "taught.safetensors").metadata
    assert distance(teacher=teacher) < 0.85 * alone
    facts = load(tmp_path / "taught.safetensors").metadata["teacher"]
    assert facts["sha256"] == hashlib.sha256(trained.read_bytes()).hexdigest()


def test_a_teacher_sees_images_normalised_as_it_knows_them(trained, tmp_path):
    teacher, pixels = start_from(trained), torch.randint(0, 255, (4, 1, 8, 8), dtype=torch.uint8)
    other = replace(TRAIN, normalisation=NORMALISATIONS["none"])
    run = training_run.Run(TrainConfig(MODEL), other, tmp_path / "a.safetensors", None, teacher)
    assert run.teacher is not teacher.model  # which stays where it is
    with torch.inference_mode():
        same = teacher.model.eval().to(memory_format=torch.channels_last)  # as the run's copy
        expected = same(TRAIN.normalisation.apply(pixels))
    assert torch.equal(run.opinion(pixels), expected)


def test_a_teacher_of_other_classes_is_refused(trained, tmp_path):
    small = TrainConfig(replace(MODEL, classes=12))
    with pytest.raises(DataError, match=r"teacher relu.safetensors .* 10 classes"):
        train(small, TRAIN, TEST, tmp_path / "a.safetensors", teacher=start_from(trained))


@pytest.mark.sweep
@compiler
def test_a_compiled_teacher_says_the_same(trained, tmp_path):
    pixels = torch.randint(0, 255, (4, 1, 8, 8), dtype=torch.uint8)
    opinions = []
    for compiled in (False, True):
        settings = TrainConfig(MODEL, compiled=compiled)
        out = tmp_path / "a.safetensors"
        run = training_run.Run(settings, TRAIN, out, None, start_from(trained))
        opinions.append(run.opinion(pixels))
    assert torch.allclose(*opinions, rtol=1e-4, atol=1e-4)


@pytest.mark.sweep
@compiler
def test_compiled_training_resumes_with_the_same_bits(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "WORK_PER_SAVING", 0.0)
    whole, resumed = tmp_path / "whole.safetensors", tmp_path / "resumed.safetensors"
    compiled_losses = []
    finetune(trained, whole, lambda now: compiled_losses.append(now.loss), compiled=True)
    assert load(whole).metadata["training"]["compiled"] is True

    def stop(now):
        if now.step == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        finetune(trained, resumed, stop, compiled=True)
    with pytest.raises(CheckpointError, match="compiled True"):
        finetune(trained, resumed)
    finetune(trained, resumed, compiled=True)
    first, second = load(whole).model.state_dict(), load(resumed).model.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    losses = []
    finetune(trained, tmp_path / "plain.safetensors", lambda now: losses.append(now.loss))
    assert losses[0] == pytest.approx(compiled_losses[0], rel=1e-4)
