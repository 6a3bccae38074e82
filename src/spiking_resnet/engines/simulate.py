"""Runs a spiking network on the fastest engine that fits, and says what it found."""

import time
import warnings
from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.engines.base import Engine
from spiking_resnet.engines.cpu.engine import NativeCpu
from spiking_resnet.engines.interpreter import Interpreter
from spiking_resnet.engines.layerwise import Layerwise
from spiking_resnet.engines.plan import OutOfRange, Plan, Result
from spiking_resnet.engines.state import fitting, within_bounds
from spiking_resnet.graph import Fire, Graph, MaxPool, Output
from spiking_resnet.graph.exactness import exact_steps
from spiking_resnet.graph.interpret import State
from spiking_resnet.images import as_images, as_maps
from spiking_resnet.progress import Asked, shown
from spiking_resnet.records import UNRELIABLE, InputError, LayerCount, Run, Trains
from spiking_resnet.surroundings import undisturbed

LONG = 350  # time steps at which rates have settled (the paper's longest)
ENGINES: dict[str, Engine] = {  # the fastest first: "auto" takes the first that can
    engine.name: engine
    for engine in (
        NativeCpu(),
        Layerwise(),
        Interpreter(),
    )
}


@arguments.checked(
    graph=arguments.network,
    images=arguments.image_batch,
    steps=arguments.whole,
    record=arguments.wholes,
    engine=arguments.text,
    trains=arguments.names,
    window=arguments.whole,
    neurons=arguments.names,
    state=arguments.state,
    keep_state=arguments.truth,
    progress=arguments.progress,
)
def simulate(
    graph: Graph,
    images: Tensor,
    steps: int | None = None,
    record: Sequence[int] = (),
    engine: str = "auto",
    trains: Collection[str] = (),
    window: int | None = None,
    neurons: Collection[str] = (),
    state: State | None = None,
    keep_state: bool = False,
    progress: Asked = None,
) -> Run:
    """The run of a spiking network over `steps` time steps, read out at every step of `record`.

    steps: None for the T that the network is made for (`Graph.made_for`), or 350 if it serves any.
    images: float [N, C, H, W] (or [N, C, L], or [N, F], as the network takes them), normalised as
    for the ANN, on the device to run on; or frames [T, N, C, H, W], one for each of T steps.
    record: ascending steps; `steps` itself is always the last. engine: a name from ENGINES or
    "auto". trains: layers whose spikes [T, N, ...] are kept. window: the most time steps to hold
    in memory at once (None: as the engine likes). neurons: layers whose spikes are counted neuron
    by neuron. state: `Run.state` of the same images' run before, on any engine, which this one
    continues: its `steps` and `record` are further ones, its logits those after all steps.
    keep_state: whether to return the state. progress: whether it is shown that it runs, once that
    takes seconds, as for `evaluate`. Nothing else is carried from one call to the next, and nothing
    that a program has set in torch (autocast, default dtype or device, gradients) changes a spike.

    The logits tend to the ANN's as steps grow where the read-out is "mean" or "sum".
    With "spikes+membrane" they are counts of the output neurons' spikes, scaled: the largest one is
    meant to be the same, but neurons cannot count below zero, so negative logits come out as about
    0.
    Raises InputError.

    >>> run = sr.simulate(snn, images, steps=32, record=(8, 32))
    >>> run.logits.shape
    torch.Size([2, 10, 10])
    """
    with shown(progress, "simulating"), undisturbed():
        images = _maps(images)
        steps = _steps(graph, images, state) if steps is None else steps
        _check(graph, images, steps, record, {*trains, *neurons}, window)
        state = None if state is None else fitting(state, graph, images)
        record = tuple(sorted({*record, steps}))
        plan = Plan(images, record, tuple(trains), tuple(neurons), (), window, state, keep_state)
        _check_length(graph, plan)
        plan = replace(plan, watch=_to_watch(graph, plan))
        chosen = choose(graph, engine, images.device)
        begin = time.perf_counter()
        try:
            result = chosen.prepare(graph, images.device).run(plan)
        except OutOfRange as beyond:
            if engine != "auto":
                raise InputError(_out_of_range(chosen.name, beyond)) from beyond
            chosen = choose(graph, engine, images.device, after=chosen.name)
            result = chosen.prepare(graph, images.device).run(plan)
        seconds = time.perf_counter() - begin
        return _run_of(graph, plan, result, chosen.name, seconds)


def _run_of(graph: Graph, plan: Plan, result: Result, engine: str, seconds: float) -> Run:
    """What an engine found, as users read it."""
    remark = _inexact(graph, plan, result, engine)
    return Run(
        record=plan.record,
        logits=torch.stack(result.logits),
        spikes={
            name: LayerCount(neurons, torch.stack(result.recorded[name]))
            for name, neurons in graph.neurons.items()
        },
        engine=engine,
        seconds=seconds,
        exact=not remark,
        remark=remark,
        trains=Trains(
            {name: torch.cat(parts) for name, parts in result.trains.items()},
            {name: graph[name].shape for name in result.trains},
        ),
        neuron_spikes=result.neurons,
        state=result.state,
    )


def _maps(images: Tensor) -> Tensor:
    """Images [N, C, H, W], or frames [T, N, C, H, W], as networks take them."""
    if images.ndim != 5:
        return as_maps(as_images(images))
    return as_images(images.flatten(0, 1)).unflatten(0, images.shape[:2])


def _steps(graph: Graph, images: Tensor, state: State | None) -> int:
    """The steps of a run if nobody says otherwise: one a frame, or those left of the usual ones."""
    if images.ndim == 5:
        return len(images)
    return max(1, usual(graph) - (0 if state is None else state.time))


def usual(graph: Graph) -> int:
    """The time steps of a simulation if nobody says otherwise."""
    return graph.made_for or graph.pre_steps + LONG


def check_engine(name: str) -> None:
    """Raise InputError for the name of an engine there is not."""
    if name != "auto" and name not in ENGINES:
        raise InputError(f"there is no engine {name!r}: use auto or one of {', '.join(ENGINES)}")


def choose(
    graph: Graph, engine: str = "auto", device: torch.device | str = "cpu", after: str = ""
) -> Engine:
    """The engine that will run `graph` there; InputError if none can.

    after: of "auto", the engine that has been tried; those before it are passed over, too.
    """
    check_engine(engine)
    known = list(ENGINES.values()) if engine == "auto" else [ENGINES[engine]]
    if after:
        known = known[list(ENGINES).index(after) + 1 :]
    reasons = []
    for each in known:
        if engine == "auto" and (missing := each.missing(device)):
            warnings.warn(missing, stacklevel=4)
        problems = each.unsupported(graph, device)
        if not problems:
            return each
        reasons.append(f"{each.name}: {'; '.join(problems)}")
    raise InputError("no engine can run this network:\n  " + "\n  ".join(reasons))


def _check(
    graph: Graph,
    images: Tensor,
    steps: int,
    record: Sequence[int],
    layers: Collection[str],
    window: int | None,
) -> None:
    """Raises InputError for anything that cannot be simulated."""
    if images.shape[:-3].numel() == 0:
        raise InputError("there are no images to simulate")
    channels, height, width = graph.input.shape
    if tuple(images.shape) == (channels, height, 1, width) and height > 1:  # taken for signals
        raise InputError(f"images is one image {graph.input.shape}: give images[None]")
    if tuple(images.shape[-3:]) != graph.input.shape:
        raise InputError(
            f"images have shape {tuple(images.shape[-3:])}; the network was made for "
            f"{graph.input.shape}: give them as [N, C, H, W]"
        )
    if steps < 1 or (window is not None and window < 1):
        raise InputError(f"steps is {steps} and window {window}: both must be at least 1")
    if any(not 1 <= step <= steps for step in record):
        raise InputError(f"record is {tuple(record)}: every entry must lie in 1..{steps}")
    if not graph.of(Fire):
        raise InputError("the network has no spiking neurons: convert it first")
    if unknown := sorted(set(layers) - graph.neurons.keys()):
        raise arguments.unknown("population", unknown[0], graph.neurons)


def _check_length(graph: Graph, plan: Plan) -> None:
    """Raises InputError for more steps than there are frames, or neurons that know how to fire."""
    steps = plan.times[-1]
    if plan.frames and len(plan.images) != plan.record[-1]:
        raise InputError(
            f"steps is {plan.record[-1]}, and there are {len(plan.images)} frames: give one frame "
            "[N, C, H, W] for every step"
        )
    if plan.frames and graph.input.encoding == "once":
        raise InputError(
            "the network's image enters at the first step only, so it takes no frames: convert by "
            "a method of rates, such as hu2021"
        )
    if graph.longest is not None and steps > graph.longest:
        raise InputError(
            f"steps is {steps}, and differential neurons have amplitudes for {graph.longest}: "
            "convert with more steps"
        )


def _to_watch(graph: Graph, plan: Plan) -> tuple[str, ...]:
    """The populations whose potentials must be followed: none where exactness is certain."""
    image = graph.input
    if image.grid is None and image.encoding != "poisson":
        return ()
    within = float(plan.images.abs().max()) <= image.limit or image.encoding == "poisson"
    if within and plan.times[-1] <= exact_steps(graph) and within_bounds(plan.state, graph):
        return ()
    return tuple(node.name for node in graph.integrators if node.grid is not None)


def _out_of_range(engine: str, beyond: OutOfRange) -> str:
    return (
        f"engine {engine!r} computes in integers of 16 and 32 bits, which do not hold {beyond}: "
        "scale the images as those of the calibration were, run fewer steps, or take engine 'auto'"
    )


def _inexact(graph: Graph, plan: Plan, result: Result, engine: str) -> str:
    """Why a run is outside the exact range, or an empty text."""
    if any(node.grid is None for node in graph.integrators):
        return "weights are not on a grid: engines and batch sizes may differ in single spikes"
    beyond = {
        node: result.peaks[node.name] / _exact_sum(node)
        for node in graph.integrators
        if node.name in plan.watch and result.peaks.get(node.name, 0.0) >= _exact_sum(node)
    }
    if not beyond:
        return ""
    neurons = [node for node in beyond if not isinstance(node, Output)]
    rounded = [node for node in neurons if not isinstance(node, ENGINES[engine].integers)]
    node = max(rounded or neurons or beyond, key=lambda node: beyond[node])
    peak, steps = result.peaks[node.name], plan.times[-1]
    reached = (
        f"the potentials of {node.name!r} reached {peak:.0f}, beyond {_exact_sum(node):.0f}, where "
        f"sums on its grid 2^-{node.grid} are exact in {'float64' if node.wide else 'float32'}: "
    )
    rounding = peak * 2.0**-node.mantissa
    error = 2 * steps * rounding  # of a charge and a reset in every step
    remedy = "run fewer steps, or convert with fewer grid bits"
    if error < 1:
        return f"{reached}engines may differ in single spikes; {remedy}"
    if isinstance(node, Output):
        return f"{reached}every sum is rounded by up to {rounding:.2g} there; {remedy}"
    if not rounded:
        return (
            f"{reached}engine {engine!r} computed them exactly, in integers, but others may differ "
            f"by up to {error:.3g} spikes of a neuron; {remedy}"
        )
    return (
        f"{reached}rounding adds up to {error:.3g} over {steps} steps, and up to as many spikes of "
        f"a neuron may be wrong. {UNRELIABLE}: scale the images as those of the calibration were, "
        f"{remedy}"
    )


def _exact_sum(node: Fire | MaxPool | Output) -> float:
    """Below what |sum| of one node every sum on its grid is exact."""
    return 2.0 ** (node.mantissa - (node.grid or 0))
