"""All that a report tells of one spiking network, as one record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from spiking_resnet.codec import Record
from spiking_resnet.costs.energy import Account, account
from spiking_resnet.costs.models import Model
from spiking_resnet.costs.operations import costs
from spiking_resnet.costs.sizes import sizes
from spiking_resnet.evaluation.compare import Comparison
from spiking_resnet.evaluation.diagnosis import Diagnosis
from spiking_resnet.evaluation.energy import events_at
from spiking_resnet.evaluation.layers import Layer, layers
from spiking_resnet.evaluation.observe import Observation
from spiking_resnet.graph import Graph
from spiking_resnet.records import Curve


@dataclass(frozen=True)
class Energy(Record):
    """The energy of a spiking network over time steps.

    account: up to the last of the steps. joules: of an image, at each of the steps, by the cost
    model's name. models: with the source of each constant.
    """

    account: Account
    joules: Mapping[str, tuple[float, ...]]
    models: tuple[Model, ...]


@dataclass(frozen=True)
class Findings(Record):
    """What was measured of a spiking network.

    operations: synaptic ones of an image at each point of the curve, without `image_macs`:
    multiply-accumulates of the layers that read the image. ann_macs: the ANN's, None where it is
    not known. layers: at the last point. undiagnosed: why there is no diagnosis, or "".
    observation: None where no image was observed. energy: at the points of the
    curve. class_names: as far as they are known.
    """

    curve: Curve
    operations: tuple[float, ...]
    image_macs: int
    ann_macs: int | None
    layers: tuple[Layer, ...]
    diagnosis: Diagnosis | None = None
    undiagnosed: str = ""
    observation: Observation | None = None
    comparison: Comparison | None = None
    energy: Energy | None = None
    class_names: tuple[str, ...] = ()


def findings(
    graph: Graph,
    curve: Curve,
    diagnosis: Diagnosis | None = None,
    undiagnosed: str = "",
    observation: Observation | None = None,
    comparison: Comparison | None = None,
    energy: Energy | None = None,
    class_names: Sequence[str] = (),
) -> Findings:
    """Put together what was measured of `graph`, with its costs."""
    spent, ann = costs(graph), graph.ann
    errors = {} if diagnosis is None else {each.name: each.rms for each in diagnosis.layers}
    return Findings(
        curve=curve,
        operations=tuple(spent.operations(point) for point in curve.points),
        image_macs=spent.image,
        ann_macs=None if ann is None else sum(one.macs for one in sizes(ann.nodes).values()),
        layers=layers(graph, curve.points[-1], errors),
        diagnosis=diagnosis,
        undiagnosed=undiagnosed,
        observation=observation,
        comparison=comparison,
        energy=energy,
        class_names=tuple(class_names),
    )


def energy_at(
    graph: Graph,
    loader: Iterable[Any],
    steps: Sequence[int],
    models: Sequence[Model],
    engine: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> Energy:
    """The energy of a network after each of the `steps`; all spikes are counted.

    progress: called with the images done so far. Raises as `count_events` does.
    """
    counted = events_at(graph, loader, sorted(set(steps)), engine, progress)
    found = [account(graph, events, models) for events in counted]
    joules = {
        priced.model: tuple(each.priced[place].joules for each in found)
        for place, priced in enumerate(found[-1].priced)
    }
    return Energy(replace(found[-1], notes={}), joules, tuple(models))
