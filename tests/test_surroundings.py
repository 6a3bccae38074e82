"""What a user's program has set in torch changes no result, and stays as the user set it."""

import ast
import threading
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import spiking_resnet as sr
from spiking_resnet.ann.checkpoint import pretrained
from spiking_resnet.ann.images import NORMALISATIONS, in_memory
from spiking_resnet.ann.resnet import build
from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.convert import traced_alike
from spiking_resnet.conversion.methods import calibrated, dcgs, differential, hu2021, named, qcfs
from spiking_resnet.conversion.statistics import Histogram
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.evaluation.evaluate import usual_steps
from spiking_resnet.graph import tensors
from spiking_resnet.store import digest
from spiking_resnet.surroundings import Modes, undisturbed
from zoo import QCFS, Headed, Identity, conv_bn, stem

ROOT = Path(sr.__file__).parent
MAKERS = (
    *("arange", "as_tensor", "asarray", "empty", "empty_strided", "eye", "full", "linspace"),
    *("logspace", "normal", "ones", "rand", "randn", "range", "scalar_tensor", "tensor", "zeros"),
)
LAYERS = ("BatchNorm2d", "Conv2d", "Linear")
MAKES = {*(f"torch.{name}" for name in MAKERS), *(f"nn.{name}" for name in LAYERS)}


@contextmanager
def default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def lowered_products():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Watch(TorchDispatchMode):
    """Fails where anything is computed in bfloat16."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for value in tree_leaves(made):
            assert not isinstance(value, torch.Tensor) or value.dtype != torch.bfloat16, func
        return made


@contextmanager
def watched():
    with default_dtype(torch.bfloat16), Watch():
        yield


SURROUNDINGS = {
    "float64 by default": lambda: default_dtype(torch.float64),
    "bfloat16 by default": watched,
    "autocast to bfloat16": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "meta by default": lambda: torch.device("meta"),
    "products in bfloat16": lowered_products,
}
SELDOM = ("inference mode", "products in bfloat16")
every_surrounding = pytest.mark.parametrize(
    "around",
    [
        pytest.param(around, id=name, marks=[pytest.mark.slow] if name in SELDOM else [])
        for name, around in SURROUNDINGS.items()
    ],
)


def net(activation=nn.ReLU):
    """A stem, a residual block, a max pool, and neurons of several fan-ins; the same each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        body = nn.Sequential(stem(), Identity(), nn.MaxPool2d(2), *conv_bn(4, 6), activation())
        model = Headed(body, 6)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.2, 0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model.eval()


def quantised():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), QCFS(4, 1.5), nn.Flatten(), nn.Linear(4 * 36, 5))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            values = torch.sin(torch.arange(parameter.numel()) * 1.7 + number)
            if parameter.ndim:
                parameter.copy_(values.view_as(parameter) / 3)
    return model.eval()


MODEL, QUANTISED = net(), quantised()
IMAGES = torch.randn(16, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(8) % 5
TRACED, TRACED_QUANTISED = traced_alike(MODEL, IMAGES), traced_alike(QUANTISED, IMAGES)
FAMILIES = {
    "hu2021": hu2021(steps=16, compensation_steps=8, compensation_images=8),
    "calibrated": calibrated(steps=4, images=8),
    "differential": differential(steps=4, images=8),
    "dcgs": dcgs(steps=4, levels=2, images=8),
    "qcfs": qcfs(steps=8, gate="srp", pre_steps=4),
}
VARIANTS = {
    "several levels": hu2021(steps=16, compensation=1.01, levels=3, signed=True),
    "a coded image": hu2021(steps=16, compensation=1.01, input_coding="poisson"),
    "offsets": named("da-qcfs", steps=4, images=8),
    "gaussian thresholds": calibrated(steps=4, images=8, thresholds="gaussian"),
    "iterated thresholds": calibrated(steps=4, images=8, thresholds="iterated"),
    "balanced thresholds": named("threshold-balancing", steps=4, images=8, batches=4),
}


def graphs(methods):
    """A spiking network by every method, by name."""
    return {
        name: method.apply(TRACED_QUANTISED if name == "qcfs" else TRACED, Calibration(IMAGES[:12]))
        for name, method in methods.items()
    }


ORDINARY = graphs({**FAMILIES, **VARIANTS})


def said(found):
    """What a result says, but for the time it took."""
    return {key: value for key, value in found.to_json().items() if key != "seconds"}


def same_networks(found):
    for name, graph in found.items():
        assert digest(graph) == digest(ORDINARY[name]), name
        assert graph.notes == ORDINARY[name].notes, name


@every_surrounding
def test_every_method_makes_the_same_network(around):
    with around():
        found = graphs(FAMILIES)
    same_networks(found)


def test_no_method_computes_in_the_default_dtype():
    with watched():
        found = graphs(VARIANTS)
    same_networks(found)


def run(graph, engine):
    found = sr.simulate(
        graph, IMAGES[:3], usual_steps(graph)[0], (2,), engine, neurons=graph.neurons
    )
    counts = {name: count.spikes.tolist() for name, count in found.spikes.items()}
    neurons = {name: spikes.tolist() for name, spikes in found.neuron_spikes.items()}
    assert found.logits.dtype == torch.float32
    return found.logits.tolist(), found.exact, found.remark, counts, neurons


ordinary_run = cache(lambda name, engine: run(ORDINARY[name], engine))


@every_surrounding
def test_every_engine_fires_the_same_spikes(around):
    for name in (*FAMILIES, "several levels", "a coded image"):
        graph = ORDINARY[name]
        for engine in [name for name, engine in ENGINES.items() if not engine.unsupported(graph)]:
            want = ordinary_run(name, engine)
            with around():
                assert run(graph, engine) == want, engine


def answers(folder):
    """What the package says of a network, question by question."""
    batches = [
        (IMAGES[:8], torch.arange(8, device="cpu") % 5),
        (IMAGES[8:10], torch.ones(2, dtype=torch.int64, device="cpu")),
    ]
    graph = sr.convert(MODEL, IMAGES[:8], hu2021(steps=24, compensation=1.01))
    sr.save(graph, folder / "snn.safetensors")
    loaded = sr.load(folder / "snn.safetensors")
    compared = sr.compare(MODEL, IMAGES[:8], [IMAGES[8:]], (sr.RECIPES["mmse"],), (4,))
    readings = [{**asdict(row.readings[4]), "engine": "", "seconds": 0} for row in compared.rows]
    return (
        digest(graph),
        digest(loaded),
        said(sr.evaluate(loaded, batches, (4, 24))),
        said(sr.evaluate(loaded, batches, (4, 24), ann=MODEL)),
        said(sr.diagnose(loaded, batches, 24)),
        sr.as_module(loaded, 24)(IMAGES[:4]).tolist(),
        readings,
    )


@pytest.fixture(scope="module")
def ordinary_answers(tmp_path_factory):
    return answers(tmp_path_factory.mktemp("ordinary"))


@pytest.mark.sweep
@every_surrounding
def test_all_questions_have_the_same_answers(around, tmp_path, ordinary_answers):
    with around():
        assert answers(tmp_path) == ordinary_answers


@every_surrounding
def test_networks_of_files_are_the_same(around):
    want = {
        name: value.clone() for name, value in pretrained("digits_resnet8").model.named_parameters()
    }
    with around():
        found = dict(pretrained("digits_resnet8").model.named_parameters())
    assert found.keys() == want.keys()
    for name, value in found.items():
        assert value.dtype == torch.float32
        assert torch.equal(value, want[name])


@every_surrounding
def test_batches_are_the_same(around):
    pixels = torch.arange(6 * 3 * 8 * 8).view(6, 3, 8, 8).to(torch.uint8)

    def read():
        data = in_memory("made", "train", pixels, [0, 1, 2, 0, 1, 2], 3, NORMALISATIONS["cifar10"])
        return list(data.loader(4, limit=5, seed=1, augment=None))

    want = read()
    with around():
        found = read()
    for (images, labels), (wanted, expected) in zip(found, want, strict=True):
        assert images.dtype == torch.float32
        assert torch.equal(images, wanted)
        assert torch.equal(labels, expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_networks_are_built_in_float32(dtype):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        want = build("resnet8", shortcut="paper-average").state_dict()
        with default_dtype(dtype):
            torch.manual_seed(1)
            found = build("resnet8", shortcut="paper-average").state_dict()
    for name, value in found.items():
        assert value.dtype == want[name].dtype
        assert torch.equal(value, want[name])


def test_converted_in_inference_mode_its_tensors_are_ordinary_ones():
    with torch.inference_mode():
        graph = sr.convert(MODEL, IMAGES[:12], FAMILIES["calibrated"])
        run = sr.simulate(graph, IMAGES[:2], 8, neurons=graph.neurons)
    for node in graph.nodes:
        assert not any(tensor.is_inference() for tensor in tensors(node).values())
    assert not any(spikes.is_inference() for spikes in run.neuron_spikes.values())


def test_the_surroundings_stay_as_they_were():
    graph = ORDINARY["hu2021"]
    with torch.autocast("cpu"), torch.device("meta"), lowered_products():
        before = Modes.now()
        sr.simulate(graph, IMAGES[:1], 2)
        assert Modes.now() == before
        assert torch.get_float32_matmul_precision() == "medium"
        with pytest.raises(sr.InputError):
            sr.simulate(graph, IMAGES[:1], 0)
        assert Modes.now() == before
    with torch.inference_mode():
        sr.simulate(graph, IMAGES[:1], 2)
        assert torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()


def test_the_newer_precision_settings_of_torch_are_understood_and_kept():
    matmul = torch.backends.cuda.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "tf32"
    try:
        with undisturbed():
            assert torch.get_float32_matmul_precision() == "highest"
        assert matmul.fp32_precision == "tf32"
    finally:
        matmul.fp32_precision = before


def test_precision_is_full_until_the_last_thread_is_done():
    inside, leave = threading.Event(), threading.Event()

    def other():
        with undisturbed():
            inside.set()
            leave.wait(20)

    with lowered_products():
        thread = threading.Thread(target=other)
        with undisturbed():
            thread.start()
            assert inside.wait(20)
        assert torch.get_float32_matmul_precision() == "highest"  # the other one still needs it
        leave.set()
        thread.join()
        assert torch.get_float32_matmul_precision() == "medium"


def test_a_loader_runs_in_its_users_surroundings():
    seen = []

    def batches():
        for start in (0, 6):
            seen.append(Modes.now())
            yield IMAGES[start : start + 6]

    with torch.autocast("cpu", torch.bfloat16):
        want = Modes.now()
        graph = sr.convert(MODEL, batches(), FAMILIES["calibrated"])
    assert seen == [want, want]
    assert digest(graph) == digest(ORDINARY["calibrated"])


def silent(tree):
    """Calls torch.zeros(...), nn.Linear(...) and so on that name no dtype, by line."""
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or "dtype" in {word.arg for word in call.keywords}:
            continue
        made = ast.unparse(call.func)
        if made in MAKES:
            yield f"line {call.lineno}: {made}"


@pytest.mark.whole
@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_every_tensor_that_is_made_states_its_dtype(path):
    assert not list(silent(ast.parse(path.read_text()))), "torch's default dtype would decide"


def test_the_default_dtype_does_not_reach_the_edges_of_histograms():
    with default_dtype(torch.float16):  # whose largest number is below the last edge
        assert torch.isfinite(Histogram(1, 7).values()).all()
