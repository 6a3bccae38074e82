"""A progress bar for a training in a terminal."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from spiking_resnet.ann.train import TrainProgress


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callable[[TrainProgress], None]]:
    """A function to pass to `train` that draws steps, epoch, loss, accuracy and time left."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("{task.fields[measured]}"), TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console or Console(stderr=True)) as bar:
        task = bar.add_task("epoch 1", total=None, measured="")

        def show(now: TrainProgress) -> None:
            measured = f"loss {now.loss:.3f}  training {100 * now.accuracy:.1f} %"
            if now.held_out_accuracy is not None:
                measured += f"  held out {100 * now.held_out_accuracy:.1f} %"
            bar.update(
                task, completed=now.step, total=now.steps, measured=measured,
                description=f"epoch {now.epoch}/{now.epochs}",
            )  # fmt: skip

        yield show
