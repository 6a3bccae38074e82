"""What an engine prepares for a graph: made once, kept as long as the graph, and no longer."""

import gc
import sys
import threading
import weakref

import pytest
import torch
from test_engines import assert_same, run

from spiking_resnet import InputError, as_module, evaluate, simulate
from spiking_resnet.engines.base import Engine, Prepared
from spiking_resnet.engines.plan import OutOfRange
from spiking_resnet.engines.simulate import ENGINES, choose
from spiking_resnet.graph import Graph
from zoo import images, spiking


def fresh(name="identity"):
    """A graph that nothing was prepared for."""
    graph = spiking(name)
    return graph.with_nodes(graph.nodes)


@pytest.fixture(params=ENGINES)
def engine(request):
    if reasons := ENGINES[request.param].unsupported(spiking("identity")):
        pytest.skip(f"{request.param}: {reasons[0]}")
    return ENGINES[request.param]


@pytest.fixture
def made(monkeypatch):
    """The graphs that engines were made ready for, and those whose tensors were copied."""
    found = {"made": [], "copied": []}
    for each in ENGINES.values():
        make = each.make
        monkeypatch.setattr(
            each, "make", lambda graph, make=make: found["made"].append(graph) or make(graph)
        )
    to = Graph.to
    monkeypatch.setattr(
        Graph, "to", lambda graph, device: found["copied"].append(graph) or to(graph, device)
    )
    return found


def test_every_engine_says_what_it_is():
    for name, each in ENGINES.items():
        assert isinstance(each, Engine)
        assert each.name == name
        assert isinstance(each.missing("cpu"), str)


def test_many_batches_are_prepared_for_once(engine, made):
    graph, labels = fresh(), torch.tensor([0, 1])
    batches = [(part, labels) for part in images("identity", 8).split(2)]
    evaluate(graph, batches, (4,), engine=engine.name)
    evaluate(graph, batches, (2, 4), engine=engine.name)
    assert len(made["made"]) == len(made["copied"]) == 1


def test_a_module_prepares_once(made):
    module = as_module(fresh(), 4)
    for part in images("identity", 6).split(2):
        module(part)
    assert len(made["made"]) == len(made["copied"]) == 1


def test_what_is_prepared_goes_with_the_graph(engine):
    graph = fresh()
    simulate(graph, images("identity", 2), 3, engine=engine.name)
    kept = weakref.ref(engine.prepare(graph))
    assert kept() is engine.prepare(graph)
    gc.disable()  # without cycles: at once
    try:
        del graph
        assert kept() is None
    finally:
        gc.enable()


def test_graphs_that_share_nodes_are_prepared_for_apart(engine):
    one, two = fresh(), fresh()
    assert engine.prepare(one) is not engine.prepare(two)
    assert engine.prepare(one, "cpu") is engine.prepare(one, torch.device("cpu"))


def test_threads_prepare_once_and_run_at_once(engine, made):
    graph, batch = fresh(), images("identity", 4)
    expected = run(spiking("identity"), batch, "interpreter", 8)
    made["made"].clear()
    found = []

    def simulated():
        found.append(run(graph, batch, engine.name, 8))

    threads = [threading.Thread(target=simulated) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made["made"]) == 1
    for each in found:
        assert_same(each, expected)


class Narrow(Engine):
    """An engine that is given up in the middle of a run."""

    name = "narrow"

    def unsupported(self, graph, device="cpu"):
        return []

    def make(self, graph):
        return GivenUp()


class GivenUp(Prepared):
    def run(self, plan):
        raise OutOfRange("the sums of 'conv'")


def test_auto_goes_on_with_the_engine_after_one_that_gives_up(monkeypatch):
    engines = {"narrow": Narrow(), "interpreter": ENGINES["interpreter"]}
    monkeypatch.setattr(sys.modules["spiking_resnet.engines.simulate"], "ENGINES", engines)
    graph, batch = fresh(), images("identity", 1)
    assert choose(graph).name == "narrow"
    assert simulate(graph, batch, 2).engine == "interpreter"
    with pytest.raises(InputError, match=r"'narrow'.*the sums of 'conv'"):
        simulate(graph, batch, 2, engine="narrow")
    with pytest.raises(InputError, match="use auto or one of narrow, interpreter"):
        simulate(graph, batch, 2, engine="cpu")


def test_prepared_for_another_device_its_tensors_are_there():
    if not torch.cuda.is_available():
        pytest.skip("there is no accelerator")
    graph = fresh()
    prepared = ENGINES["layerwise"].prepare(graph, "cuda:0")
    assert prepared is ENGINES["layerwise"].prepare(graph, "cuda:0")
    assert graph.devices == {torch.device("cpu")}
