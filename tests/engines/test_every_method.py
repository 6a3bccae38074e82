"""What every method makes is exact, and runs on every engine: the recipes of comparisons, all."""

import pytest
import torch

from spiking_resnet import convert, simulate
from spiking_resnet.conversion.presets import RECIPES
from spiking_resnet.engines.simulate import ENGINES
from zoo import images, network, quantised

pytestmark = pytest.mark.whole

STEPS = 6


@pytest.mark.parametrize("of", ["option_a", "stem_max_pool"])
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_exact_on_every_engine(name, of):
    method = RECIPES[name].make(STEPS)
    if method.name == "qcfs":
        model, batch = quantised(), images("identity", 20)
    else:
        model, batch = network(of), images(of, 20)
    graph = convert(model, batch, method)
    steps = graph.made_for or STEPS
    expected = simulate(graph, batch[:3], steps, engine="interpreter", keep_state=True)
    assert expected.exact
    for engine in ENGINES:
        assert not ENGINES[engine].unsupported(graph)
        run = simulate(graph, batch[:3], steps, engine=engine, keep_state=True)
        assert run.exact
        assert run.engine == engine
        assert torch.equal(run.logits, expected.logits)
        for layer, count in expected.spikes.items():
            assert torch.equal(run.spikes[layer].spikes, count.spikes)
        for part, kept in expected.state.memory.items():
            assert torch.equal(run.state.memory[part], kept)
