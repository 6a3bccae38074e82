"""A spiking network as a module behaves as modules do."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from spiking_resnet import GraphError, InputError, as_module, simulate
from spiking_resnet.graph import Conv2d, tensors
from spiking_resnet.spiking_module import SpikingModule
from zoo import images, spiking

STEPS = 12
GRAPH = spiking("identity")
IMAGES = images("identity", 3)
LOGITS = simulate(GRAPH, IMAGES, STEPS).logits[-1]


def module():
    return as_module(GRAPH, STEPS)


def changed(state):
    """The state with the read-out's weights negated, which keeps them on their grid."""
    name = next(name for name in reversed(state) if name.endswith("%2Eweight"))
    return {**state, name: -state[name]}


def test_every_tensor_of_the_graph_is_in_the_state():
    state = module().state_dict()
    held = {
        f"{node.name}.{field}".replace(".", "%2E"): tensor
        for node in GRAPH.nodes
        for field, tensor in tensors(node).items()
    }
    assert state.keys() == {*held, "_extra_state"}
    assert all(torch.equal(state[name], tensor) for name, tensor in held.items())


def test_a_state_goes_into_another_module_of_the_same_graph():
    other = module()
    other.load_state_dict(changed(other.state_dict()))
    assert not torch.equal(other(IMAGES), LOGITS)
    other.load_state_dict(module().state_dict())
    assert torch.equal(other(IMAGES), LOGITS)


def test_what_is_loaded_decides_the_results_and_leaves_the_graph_alone():
    one, other = module(), module()
    one.load_state_dict(changed(one.state_dict()))
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    assert torch.equal(other(IMAGES), one(IMAGES))
    assert torch.equal(simulate(GRAPH, IMAGES, STEPS).logits[-1], LOGITS)
    assert torch.equal(module()(IMAGES), LOGITS)


def test_a_state_of_another_conversion_is_refused_and_nothing_is_loaded():
    one = module()
    before = {name: tensor.clone() for name, tensor in one.state_dict().items()}
    with pytest.raises(InputError, match="another network or conversion"):
        one.load_state_dict(as_module(spiking("identity", percentile=90.0)).state_dict())
    assert all(torch.equal(tensor, before[name]) for name, tensor in one.state_dict().items())


def test_values_off_the_grid_are_refused_by_node():
    one = module()
    node = next(node for node in GRAPH.of(Conv2d) if node.grid is not None)
    one.get_buffer(f"{node.name}.weight".replace(".", "%2E")).add_(2.0 ** -(node.grid + 2))
    with pytest.raises(GraphError, match=f"{node.name!r}.*2\\^-{node.grid}"):
        one(IMAGES)


@pytest.mark.parametrize("cast", ["half", "double", "bfloat16", "float"])
def test_casts_change_nothing(cast):
    whole = nn.Sequential(module())
    getattr(whole, cast)()
    whole.to(torch.float64)
    dtypes = {name: tensor.dtype for name, tensor in whole[0].named_buffers()}
    assert dtypes == {name: tensor.dtype for name, tensor in module().named_buffers()}
    assert torch.equal(whole(IMAGES), LOGITS)


def test_it_moves_as_modules_do():
    moved = module().to("meta")
    assert {tensor.device.type for tensor in moved.buffers()} == {"meta"}


def test_it_is_copied_and_pickled():
    one = module()
    one.load_state_dict(changed(one.state_dict()))
    for other in (copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert isinstance(other, SpikingModule)
        assert torch.equal(other(IMAGES), one(IMAGES))


def test_it_has_no_parameters_and_no_gradients():
    one = module()
    assert not list(one.parameters())
    images = IMAGES.clone().requires_grad_()
    assert not one(images).requires_grad
    assert images.grad is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_recording_it_is_refused():
    with pytest.raises(InputError, match="cannot be recorded"):
        torch.jit.trace(module(), IMAGES)
    with pytest.raises(Exception, match="cannot be recorded"):
        torch.export.export(module(), (IMAGES,), strict=False)


def test_compiled_around_it_runs_as_it_is():
    whole = torch.compile(nn.Sequential(nn.Identity(), module()), backend="eager")
    assert torch.equal(whole(IMAGES), LOGITS)
