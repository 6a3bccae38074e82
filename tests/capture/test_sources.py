"""What is given as a model: taken, or refused for what it is."""

import copy
import types
from collections import OrderedDict

import pytest
import torch
from torch import nn

from spiking_resnet import TraceError, convert, trace
from spiking_resnet.graph import interpret
from zoo import CLASSES, SHAPE, images, network

BATCH = torch.export.Dim("batch")


def refusal(model):
    with pytest.raises(TraceError) as refused:
        convert(model, images("identity"))
    return str(refused.value)


def exported(**options):
    return torch.export.export(network("identity"), (images("identity")[:3],), **options)


@pytest.mark.parametrize("as_module", [False, True])
def test_an_exported_program_of_free_batch_is_the_network_it_came_from(as_module):
    program = exported(dynamic_shapes=({0: BATCH},))
    found = trace(program.module() if as_module else program, SHAPE["identity"])
    with torch.inference_mode():
        logits = interpret.logits(found, images("identity"))
        assert torch.allclose(logits, network("identity")(images("identity")), atol=1e-5)


def test_the_module_of_a_program_of_one_batch_size_says_how_to_export_it():
    assert "batches of 3 images" in refusal(exported().module())


def test_a_wrapped_or_compiled_model_is_looked_through():
    plain = [node.name for node in trace(network("identity"), SHAPE["identity"]).nodes]
    compiled = torch.compile(nn.DataParallel(network("identity")), backend="eager")
    assert [node.name for node in trace(compiled, SHAPE["identity"]).nodes] == plain


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.ones(1, 2))])
def test_torchscript_is_refused_for_what_it_is(make):
    assert "TorchScript" in refusal(make(nn.Sequential(nn.Linear(2, 2))))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (nn.ReLU, "the class ReLU"),
        (OrderedDict(weight=torch.ones(2)), "state dict"),
        (lambda x: x, "function"),
        (types.SimpleNamespace(), "SimpleNamespace"),
        (None, "NoneType"),
        (42, "int"),
        ("resnet20", "on the command line"),
    ],
)
def test_what_is_no_network_is_named(model, words):
    message = refusal(model)
    assert words in message
    assert any(remedy in message for remedy in ("module", "Module", "instance"))


def test_a_graph_is_no_source():
    assert "Graph already" in refusal(trace(network("identity"), SHAPE["identity"]))


def save_state(path):
    torch.save(network("identity").state_dict(), path)


def save_module(path):
    torch.save(network("identity"), path)


def save_script(path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def save_program(path):
    torch.export.save(exported(), path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "write", "words"),
    [
        ("state.pt", save_state, "state dict"),
        ("state.pth", save_module, "pickled module"),
        ("script.pt", save_script, "TorchScript"),
        ("program.pt2", save_program, "torch.export.load"),
        ("net.safetensors", lambda path: path.write_bytes(b""), "load"),
        ("net.py", lambda path: path.write_text(""), "import"),
        ("net.keras", lambda path: path.write_text(""), "ONNX"),
        ("old.pth", lambda path: path.write_bytes(b"\x80\x02"), "checkpoint"),
    ],
)
def test_a_file_that_is_not_onnx_is_refused_for_what_it_is(tmp_path, name, write, words):
    write(tmp_path / name)
    message = refusal(tmp_path / name)
    assert name in message
    assert words in message


def test_a_folder_is_no_network(tmp_path):
    assert "folder" in refusal(str(tmp_path))


def test_a_lazy_module_is_named():
    model = nn.Sequential(nn.Flatten(), nn.LazyLinear(CLASSES))
    assert "'1.weight'" in refusal(model)
    assert "run it once" in refusal(model)


def test_weights_without_values_are_named():
    assert "'0.weight'" in refusal(nn.Sequential(nn.Linear(2, 2, device="meta")))


class Domain(nn.Module):
    def forward(self, x, domain):
        return x


class ByName(nn.Module):
    def forward(self, *, pixel_values):
        return pixel_values


class NoImages(nn.Module):
    def forward(self):
        return torch.ones(2, 2)


@pytest.mark.parametrize(
    ("model", "word"), [(Domain(), "domain"), (ByName(), "pixel_values"), (NoImages(), "no images")]
)
def test_a_forward_that_takes_other_things_is_refused_by_their_names(model, word):
    message = refusal(model)
    assert f"{type(model).__name__}.forward" in message
    assert word in message
    assert "wrap it" in message


@pytest.mark.filterwarnings("ignore")
def test_a_quantised_network_is_refused_in_one_error():
    from torch.ao import quantization

    model = nn.Sequential(quantization.QuantStub(), nn.Conv2d(3, 4, 3), nn.ReLU()).train()
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    prepared = quantization.prepare_qat(model)
    assert "convert the float network" in refusal(prepared)
    prepared(images("identity"))
    assert "convert the float network" in refusal(quantization.convert(prepared.eval()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_of_any_precision_has_its_weights_values(dtype):
    model = copy.deepcopy(network("identity")).to(dtype)
    found = convert(model, images("identity")).ann
    with torch.no_grad():
        wanted = copy.deepcopy(model).float()(images("identity"))
        assert torch.allclose(interpret.logits(found, images("identity")), wanted, atol=1e-5)
    assert all(parameter.dtype == dtype for parameter in model.parameters())


class Locked(nn.Linear):
    def __deepcopy__(self, memo):
        raise RuntimeError("no copies")


def test_a_half_precision_model_that_cannot_be_copied_says_so():
    message = refusal(nn.Sequential(nn.Flatten(), Locked(192, 5)).half())
    assert "half precision" in message
    assert "model.float()" in message


def test_a_scripted_part_is_refused_by_its_path():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), torch.jit.script(nn.ReLU()))
    assert "'1' of Sequential is a TorchScript module" in refusal(model)


@pytest.mark.parametrize("size", [1, 3])
def test_a_program_of_one_batch_size_is_converted(size):
    class Viewed(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(144, 5)

        def forward(self, x):
            y = torch.relu(self.conv(x))
            return self.fc(y.view(x.size(0), -1)) + y.flatten(1).mean(1, keepdim=True)

    model, batch = Viewed().eval(), torch.randn(4, 3, 8, 8)
    program = torch.export.export(model, (batch[:size],))
    with torch.no_grad():
        found = interpret.logits(convert(program, batch).ann, batch)
        assert torch.allclose(found, model(batch), atol=1e-5)
    assert program.module()(batch[:size]).shape == (size, 5)  # as it was


def test_a_program_that_mixes_its_images_is_refused():
    class Mixed(nn.Module):
        def forward(self, x):
            return x.mean((2, 3)) - x.mean((0, 2, 3))

    program = torch.export.export(Mixed().eval(), (torch.randn(4, 3, 8, 8),))
    with pytest.raises(TraceError):
        convert(program, torch.randn(4, 3, 8, 8))
