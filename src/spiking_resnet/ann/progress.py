"""Show the progress of a training: a bar in a terminal, a line an epoch elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from spiking_resnet.ann.train import TrainProgress


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[Callable[[TrainProgress], None]]:
    """A function to pass to `train` that shows epoch, loss, accuracy and time left.

    A bar of steps in a terminal; a line after every epoch where the console is a file.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield _lines(console)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[measured]}"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("epoch 1", total=1.0, measured="")

        def show(now: TrainProgress) -> None:
            bar.update(
                task, completed=now.done, measured=_measured(now),
                description=f"epoch {now.epoch}/{now.epochs}, step {now.step}/{now.steps}",
            )  # fmt: skip

        yield show


def _measured(now: TrainProgress) -> str:
    measured = f"loss {now.loss:.3f}  training {100 * now.accuracy:.1f} %"
    if now.held_out_accuracy is not None:
        measured += f"  held out {100 * now.held_out_accuracy:.1f} %"
    return measured


def _lines(console: Console) -> Callable[[TrainProgress], None]:
    """Writes a line at the last step of every epoch; time left from the work seen so far."""
    began: list[tuple[float, float]] = []

    def show(now: TrainProgress) -> None:
        began[:] = began or [(time.monotonic(), now.done)]
        if now.step % (now.steps // now.epochs):
            return
        moment, first = began[0]
        pace = (time.monotonic() - moment) / max(1e-9, now.done - first)
        left = timedelta(seconds=round(pace * (1 - now.done)))
        line = f"epoch {now.epoch}/{now.epochs}  {_measured(now)}  {left} left"
        console.print(line, highlight=False, soft_wrap=True)

    return show
