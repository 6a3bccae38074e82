"""Energy of a spiking network: its spikes are counted neuron by neuron, and priced.

Counting simulates the network; nothing is hooked into it. Neurons that fire 0 or 1 are counted by
the engine; of others the spike trains are looked at, in pieces of time that memory holds.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.costs import models as cost_models
from spiking_resnet.costs.energy import Account, account
from spiking_resnet.costs.events import Events, sources, spread
from spiking_resnet.costs.models import Model
from spiking_resnet.engines.plan import windows
from spiking_resnet.engines.simulate import simulate, usual
from spiking_resnet.graph import Fire, Graph, Input, Node
from spiking_resnet.images import as_maps, expected, images_of, parts_of
from spiking_resnet.progress import Asked, shown
from spiking_resnet.records import InputError, Run
from spiking_resnet.surroundings import undisturbed

BATCH = 32  # images of a tensor at once
ENTRIES = 2**26  # spikes of a piece of time that are held at once
Progress = Callable[[int], None] | Asked


@arguments.checked(graph=arguments.network)
def energy(
    graph: Graph,
    run: Run | Events,
    models: Sequence[str | Path | Model] | str | None = None,
) -> Account:
    """The account of a spiking network: operations by layer, and joules under every cost model.

    run: what `simulate` returned, with single neurons counted (neurons=graph.neurons; of neurons
    that fire several sizes or signs trains=graph.neurons), or what `count_events` did for many
    images. Where a Run lacks these, a population's spikes are spread evenly over its neurons, and
    the account says that it is not exact. models: names, or paths of a TOML or JSON file; None for
    all that come with the package. Raises InputError.

    >>> account = sr.energy(snn, sr.count_events(snn, loader, steps=8), models=("horowitz-int8",))
    >>> account.exact
    True
    """
    found = _models(models)
    if not isinstance(run, Run | Events):
        raise InputError(
            f"run is a {type(run).__name__}: give what simulate or count_events returned"
        )
    events = run if isinstance(run, Events) else events_of(graph, run)
    return account(graph, events, found)


@arguments.checked(
    graph=arguments.network,
    loader=arguments.batches,
    steps=arguments.whole,
    engine=arguments.text,
    progress=arguments.progress,
)
def count_events(
    graph: Graph,
    loader: Iterable[Any],
    steps: int | None = None,
    engine: str = "auto",
    progress: Progress = None,
) -> Events:
    """The spikes of every neuron over a loader's images, counted exactly.

    loader: batches of images, with labels or without, or a tensor of images. steps: None for the T
    that the network is made for, or 350. progress: as of `evaluate`; a function is called with the
    number of images done so far.
    Raises InputError.

    >>> sr.count_events(snn, loader, steps=8).images
    50
    """
    steps = usual(graph) if steps is None else steps
    (found,) = events_at(graph, loader, (steps,), engine, progress)
    return found


def _models(wanted: Any) -> list[Model]:
    """The cost models of `energy`, whatever form they have."""
    if wanted is None:
        return list(cost_models.known().values())
    if isinstance(wanted, str):
        return cost_models.named(wanted)
    several = isinstance(wanted, Iterable) and not isinstance(wanted, bytes | Mapping)
    entries = list(wanted) if several else [wanted]
    if not all(isinstance(each, str | Path | Model) for each in entries):
        raise arguments.expected("models", wanted, "give names, paths of files, or Models")
    return [each if isinstance(each, Model) else cost_models.model(each) for each in entries]


def events_at(
    graph: Graph,
    loader: Iterable[Any],
    steps: Sequence[int],
    engine: str = "auto",
    progress: Progress = None,
) -> tuple[Events, ...]:
    """The spikes after each of the ascending `steps`, from one simulation; as `count_events`."""
    if not steps or steps[0] < 1:
        raise InputError(f"steps is {steps and steps[0]}: at least 1")
    found: tuple[Events, ...] = ()
    with shown(progress, "counting spikes", expected(loader)) as bar:
        tell = progress if callable(progress) else bar.images
        for batch in parts_of(loader, BATCH):
            own = _counted(graph, images_of(batch), steps, engine)
            found = tuple(map(Events.plus, found, own)) if found else own
            tell(found[0].images)
    if not found:
        raise InputError("there are no images to count the spikes of")
    return found


def events_of(graph: Graph, run: Run) -> Events:
    """The spikes of a run: exact as far as it has neurons' counts and trains."""
    if {name: count.neurons for name, count in run.spikes.items()} != graph.neurons:
        raise InputError("the run is of another network: its populations are others")
    steps, images = run.record[-1], run.logits.shape[1]
    known = {node.name: _of_neurons(node, run) for node in graph.of(Fire)}
    exact = all(each is not None for each in known.values())
    fired, repeated = dict[str, Tensor](), dict[str, Tensor]()
    for node in graph.of(Fire):
        total = float(run.spikes[node.name].spikes[-1].sum())
        found = known[node.name] or (spread(node, total), spread(node, total))
        fired[node.name], repeated[node.name] = found
    if graph.input in sources(graph):
        raise InputError(
            "the image enters as spikes, which a run does not keep: count them with count_events"
        )
    pools = _Pools(graph)
    exact = exact and pools.heard <= set(run.trains)
    if exact:
        passed = pools.passed(run.trains, range(steps))
        fired, repeated = fired | passed, repeated | passed
    return Events(images, steps, fired, repeated, exact)


def _of_neurons(node: Fire, run: Run) -> tuple[Tensor, Tensor] | None:
    """(How often each neuron fired, sizes summed up) over the images of a run, if it knows."""
    if node.name in run.trains:
        sizes = run.trains[node.name]
        return _map(sizes != 0), _map(sizes.abs())
    if node.name in run.neuron_spikes and node.neuron.binary:
        counts = run.neuron_spikes[node.name].sum(0).double()
        return counts, counts
    return None


def _map(spikes: Tensor) -> Tensor:
    """Spikes [T, N, ...] summed over steps and images."""
    return spikes.sum((0, 1), dtype=torch.int64).double()


@undisturbed()
def _counted(graph: Graph, images: Tensor, steps: Sequence[int], engine: str) -> tuple[Events, ...]:
    """The events of a batch after each of the steps, in pieces of time."""
    images = as_maps(images)
    pools, state = _Pools(graph), None
    trains = [
        node.name for node in graph.of(Fire) if node.name in pools.heard or not node.neuron.binary
    ]
    neurons = [name for name in graph.neurons if name not in trains]
    kept = sum(graph.neurons[name] for name in trains) * len(images)
    most = max(1, ENTRIES // kept) if kept else steps[-1]
    found: dict[int, Events] = {}
    done: Events | None = None
    for start, stop in windows(tuple(steps), most):
        run = simulate(
            graph, images, stop - start, engine=engine, trains=trains, neurons=neurons, state=state,
            keep_state=stop < steps[-1],
        )  # fmt: skip
        own = _piece(graph, run, images, pools, start)
        done, state = own if done is None else done.then(own), run.state
        found[stop] = done
    return tuple(found[step] for step in steps)


def _piece(graph: Graph, run: Run, images: Tensor, pools: "_Pools", start: int) -> Events:
    fired, repeated = dict[str, Tensor](), dict[str, Tensor]()
    for node in graph.of(Fire):
        counts = _of_neurons(node, run)
        assert counts is not None
        fired[node.name], repeated[node.name] = counts
    steps = run.record[-1]
    shown = graph.input
    if shown in sources(graph):
        shot = torch.zeros(shown.shape, dtype=torch.float64, device="cpu")
        for time in range(start, start + steps):
            shot += (shown.present(images, time) != 0).sum(0)
        fired[shown.name] = repeated[shown.name] = shot
    passed = pools.passed(run.trains, range(start, start + steps), images)
    return Events(len(images), steps, fired | passed, repeated | passed)


class _Pools:
    """The spikes that max pools pass on, from those they read, from step to step.

    heard: the populations whose trains it takes.
    """

    def __init__(self, graph: Graph) -> None:
        self.nodes = [node for node in sources(graph) if node.choices]
        self.memory: dict[str, Tensor] = {}
        self.needed = self._needed(graph)
        self.heard = {node.name for node in self.needed if isinstance(node, Fire)}

    def passed(
        self, trains: Mapping[str, Tensor], times: range, images: Tensor | None = None
    ) -> dict[str, Tensor]:
        """The spikes, float64 [C, ...] by pool, summed over images and steps of trains.

        trains: sizes of spikes [T, N, ...] in the steps `times`. images: where they are spikes.
        """
        found = {
            node.name: torch.zeros(node.shape, dtype=torch.float64, device="cpu")
            for node in self.nodes
        }
        for index, time in enumerate(times):
            values: dict[str, Tensor] = {}
            for node in self.needed:
                if isinstance(node, Fire):
                    sizes = trains[node.name][index : index + 1].float()
                    values[node.name] = node.neuron.decode(sizes, time)[0]
                elif isinstance(node, Input):
                    assert images is not None
                    values[node.name] = node.present(images, time)
                else:
                    read = [values[name] for name in node.inputs]
                    values[node.name] = node.advance(read, self.memory, time)
            for name, total in found.items():
                total += (values[name] != 0).sum(0)
        return found

    def _needed(self, graph: Graph) -> list[Node]:
        """The pools and what hands them spikes, in order."""
        wanted = {node.name for node in self.nodes}
        found: list[Node] = []
        for node in reversed(graph.nodes):
            if node.name in wanted:
                found.append(node)
                if not isinstance(node, Fire):
                    wanted |= set(node.inputs)
        return found[::-1]
