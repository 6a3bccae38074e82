"""How well a spiking network does: accuracy at every recorded time step from one simulation."""

import platform
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from spiking_resnet import interpret
from spiking_resnet.graph import Graph
from spiking_resnet.records import Curve, InputError, Point, Run, images_of, wilson
from spiking_resnet.simulate import simulate

STEPS = (8, 16, 32, 64, 128, 350)


def evaluate(
    graph: Graph,
    loader: Iterable[Any],
    steps: Sequence[int] = STEPS,
    ann: nn.Module | Graph | None = None,
    engine: str = "auto",
    progress: Callable[[int, int], None] | None = None,
    device: torch.device | str = "cpu",
) -> Curve:
    """Accuracy of a spiking network after each of `steps` time steps, with what it spent.

    loader: batches (images [N, C, H, W], labels [N]), normalised as for the artificial network.
    ann: the artificial network to agree with (default: the one that `graph` came from).
    progress: called with (images done, images right at the last step) after every batch.
    Raises InputError for an empty loader, batches without labels, or steps below 1.
    """
    if not steps:
        raise InputError("steps is empty: name at least one number of time steps")
    reference = graph.ann if ann is None else ann
    tally = _Tally(tuple(sorted(set(steps))))
    for batch in loader:
        images, labels = labelled(batch)
        run = simulate(graph, images.to(device), tally.steps[-1], tally.steps, engine)
        decisions = None if reference is None else _decisions(reference, images)
        tally.add(run, labels, decisions)
        if progress is not None:
            progress(tally.images, tally.correct[-1])
    if tally.images == 0:
        raise InputError("the loader gave no images: check the data set, --limit and the split")
    return tally.curve(graph)


def labelled(batch: Any) -> tuple[Tensor, Tensor]:
    """Images and labels of one batch."""
    images = images_of(batch)
    labels = batch.get("label", batch.get("labels")) if isinstance(batch, dict) else None
    if isinstance(batch, tuple | list) and len(batch) >= 2:
        labels = batch[1]
    if not isinstance(labels, Tensor) or labels.shape != (len(images),):
        raise InputError("evaluation needs batches of (images [N, C, H, W], labels [N])")
    return images, labels.cpu()


def _decisions(ann: nn.Module | Graph, images: Tensor) -> Tensor:
    """The classes the artificial network chooses, [N]."""
    with torch.inference_mode():
        if isinstance(ann, Graph):
            return interpret.logits(ann, images).argmax(1)
        parameter = next(ann.parameters(), torch.zeros(()))
        modes = {module: module.training for module in ann.modules()}
        ann.eval()
        try:
            return ann(images.to(parameter.device, parameter.dtype)).argmax(1).cpu()
        finally:
            for module, training in modes.items():
                module.training = training


@dataclass(eq=False)
class _Tally:
    """Counts over the batches so far."""

    steps: tuple[int, ...]
    images: int = 0
    correct: list[int] = field(default_factory=list)
    agreed: list[int] = field(default_factory=list)
    ann_correct: int | None = None
    spikes: dict[str, Tensor] = field(default_factory=dict)  # [R] by layer
    seconds: float = 0.0
    engine: str = ""
    remark: str = ""

    def add(self, run: Run, labels: Tensor, decisions: Tensor | None) -> None:
        """Counts one batch."""
        chosen = run.logits.argmax(2).cpu()  # [R, N]
        zeros = [0] * len(self.steps)
        right = (chosen == labels).sum(1).tolist()
        self.correct = [a + b for a, b in zip(self.correct or zeros, right, strict=True)]
        if decisions is not None:
            same = (chosen == decisions).sum(1).tolist()
            self.agreed = [a + b for a, b in zip(self.agreed or zeros, same, strict=True)]
            self.ann_correct = (self.ann_correct or 0) + int((decisions == labels).sum())
        for name, count in run.spikes.items():
            self.spikes[name] = self.spikes.get(name, 0) + count.spikes.sum(1).cpu()
        self.images += len(labels)
        self.seconds += run.seconds
        self.engine = run.engine
        self.remark = self.remark or run.remark

    def curve(self, graph: Graph) -> Curve:
        """The shares that the counts come to."""
        n, right = self.images, self.ann_correct
        return Curve(
            images=n,
            points=tuple(self._point(i, graph.neurons) for i in range(len(self.steps))),
            ann_accuracy=None if right is None else right / n,
            ann_interval=None if right is None else wilson(right, n),
            engine=self.engine,
            seconds=self.seconds,
            exact=not self.remark,
            remark=self.remark,
            hardware=hardware(),
            notes=graph.notes,
        )

    def _point(self, index: int, neurons: dict[str, int]) -> Point:
        n, steps = self.images, self.steps[index]
        spikes = {name: float(count[index]) / n for name, count in self.spikes.items()}
        return Point(
            steps=steps,
            accuracy=self.correct[index] / n,
            interval=wilson(self.correct[index], n),
            agreement=self.agreed[index] / n if self.agreed else None,
            spikes_per_image=sum(spikes.values()),
            firing_rate=sum(spikes.values()) / (sum(neurons.values()) * steps),
            layers={name: count / (neurons[name] * steps) for name, count in spikes.items()},
        )


def hardware() -> str:
    """The processor and the versions that results depend on, for a results table."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    threads = torch.get_num_threads()
    return f"{processor}{gpu}, {threads} threads, torch {torch.__version__}"


class _Spiking(nn.Module):
    """A spiking network as a module; see `as_module`."""

    def __init__(self, graph: Graph, steps: int, engine: str) -> None:
        super().__init__()
        self.graph, self.steps, self.engine = graph, steps, engine

    def forward(self, images: Tensor) -> Tensor:
        """The logits [N, K] after `steps` time steps, on the images' device."""
        return simulate(self.graph, images, self.steps, engine=self.engine).logits[-1]


def as_module(graph: Graph, steps: int = 350, engine: str = "auto") -> nn.Module:
    """A module that maps images [N, C, H, W] to logits [N, K] like the network `graph` came from.

    It keeps nothing between calls and has no trainable parameters.
    """
    return _Spiking(graph, steps, engine)
