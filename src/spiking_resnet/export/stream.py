"""A spiking network that runs step by step on frames or events as they come, its state kept."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as from_bytes
from safetensors.torch import save as to_bytes
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.engines.state import fitting
from spiking_resnet.export.events import Counting, frames
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Fire, Graph
from spiking_resnet.graph.interpret import State, readout
from spiking_resnet.images import as_images
from spiking_resnet.records import InputError
from spiking_resnet.shown import Short
from spiking_resnet.store import digest
from spiking_resnet.surroundings import undisturbed

KEY = "spiking_resnet.stream"  # of a file's metadata


@dataclass(frozen=True, eq=False)
class Step(Short):
    """What one or several time steps of a stream brought.

    time: the steps done so far. logits: the read-out so far [N, K]. spikes: sizes of the spikes of
    the layers that were asked for, [T, N, ...] for T steps, by name.
    """

    time: int
    logits: Tensor
    spikes: Mapping[str, Tensor]


class Stream:
    """A spiking network run step by step, on whatever comes.

    graph: the network. batch: how many streams run side by side, N. layers: those whose spikes are
    handed out. engine: as of `simulate`. The spikes are those of `simulate` on all frames at once.
    Raises InputError for networks whose image enters at the first step only.

    >>> stream = sr.Stream(snn)
    >>> step = stream.push(images[0])
    >>> stream.time
    1
    """

    @arguments.checked(graph=arguments.network, batch=arguments.whole, layers=arguments.names,
                       engine=arguments.text)  # fmt: skip
    def __init__(
        self, graph: Graph, batch: int = 1, layers: Collection[str] = (), engine: str = "auto"
    ) -> None:
        if batch < 1:
            raise InputError(f"batch is {batch}: at least 1")
        if not graph.of(Fire):
            raise InputError("the network has no spiking neurons: convert it first")
        if graph.input.encoding == "once":
            raise InputError(
                "the network's image enters at the first step only, so it takes no stream: convert "
                "by a method of rates, such as hu2021"
            )
        if unknown := sorted(set(layers) - graph.neurons.keys()):
            raise arguments.unknown("population", unknown[0], graph.neurons)
        self.graph, self.batch, self.layers, self.engine = graph, batch, tuple(layers), engine
        self._state: State | None = None

    def __repr__(self) -> str:
        at = f"{self.batch} at once, step {self.time}, engine {self.engine}"
        return f"<Stream: {at}; {self.graph!r}>"

    @property
    def time(self) -> int:
        """The time steps done."""
        return 0 if self._state is None else self._state.time

    @property
    def state(self) -> State | None:
        """The state after the steps done, as `simulate` takes it; None before the first."""
        return self._state

    @property
    def readout(self) -> Tensor:
        """The logits [N, K] after the steps done. Raises InputError before the first."""
        if self._state is None:
            raise InputError("no time step was run: push a frame first")
        with undisturbed():
            return readout(self.graph, self._state)

    def reset(self) -> None:
        """Begin anew."""
        self._state = None

    @arguments.checked(frame=arguments.image_batch)
    def push(self, frame: Tensor) -> Step:
        """Run one time step on a frame, [C, H, W] for all streams or [N, C, H, W].

        Frames are float32, normalised as the network expects images. Raises InputError.
        """
        if tuple(frame.shape) == self.graph.input.shape:
            frame = frame.expand(self.batch, *frame.shape)
        return self.push_frames(frame[None])

    @arguments.checked(found=arguments.image_batch)
    def push_frames(self, found: Tensor) -> Step:
        """Run T time steps on frames [T, N, C, H, W], or [T, C, H, W] for all streams."""
        shape = self.graph.input.shape
        if tuple(found.shape[1:]) == shape:
            found = found[:, None].expand(-1, self.batch, *shape)
        if tuple(found.shape[1:]) != (self.batch, *shape) or not len(found):
            raise InputError(
                f"frames have shape {tuple(found.shape[1:])}: give (C, H, W) = {shape}, or "
                f"{self.batch} of them, one for each stream"
            )
        with undisturbed():
            found = as_images(found.flatten(0, 1)).unflatten(0, (-1, self.batch))
        run = simulate(
            self.graph, found, len(found), engine=self.engine, trains=self.layers,
            state=self._state, keep_state=True, progress=False,
        )  # fmt: skip
        self._state = run.state
        return Step(self.time, run.logits[-1], run.trains)

    def push_events(
        self,
        events: Any,
        window: int | None = None,
        count: int | None = None,
        counting: Counting = "sum",
    ) -> Step:
        """Run a time step on each frame of a list of events (t, x, y, p), see `events.frames`.

        The network must take two channels, one for each polarity. Raises InputError.
        """
        channels, *size = self.graph.input.shape
        if channels != 2:
            raise InputError(
                f"the network takes {channels} channels, and events have 2, one for each polarity"
            )
        found = frames(events, (size[0], size[1]), window, count, counting)
        if not len(found):
            raise InputError("there are no events: push a frame of zeros for a silent time step")
        return self.push_frames(found)

    @arguments.checked(path=arguments.path)
    def save(self, path: str | Path) -> None:
        """Write the state to a .safetensors file, to be read by `restore`. InputError before any
        step.
        """
        if self._state is None:
            raise InputError("no time step was run: there is no state to save")
        told = json.dumps({"time": self.time, "network": digest(self.graph)})
        with undisturbed():
            held = {name: each.contiguous() for name, each in self._state.memory.items()}
            write_whole(path, to_bytes(held, metadata={KEY: told}))

    @arguments.checked(path=arguments.path)
    def restore(self, path: str | Path) -> None:
        """Go on from the state in a file that `save` wrote.

        Raises InputError for other files, and for the state of another network or batch.
        """
        content = Path(path).read_bytes()
        try:
            memory = from_bytes(content)
            size = int.from_bytes(content[:8], "little")
            told = json.loads(json.loads(content[8 : 8 + size])["__metadata__"][KEY])
            time, network = int(told["time"]), told["network"]
        except (SafetensorError, ValueError, KeyError, TypeError, OverflowError) as error:
            raise InputError(f"{path} holds no state of a stream ({error})") from error
        if network != digest(self.graph):
            raise InputError(f"{path} is the state of another network: take that network's file")
        shape = (self.batch, *self.graph.input.shape)
        blank = torch.zeros(shape, dtype=torch.float32, device="cpu")
        self._state = fitting(State(time, memory), self.graph, blank)
