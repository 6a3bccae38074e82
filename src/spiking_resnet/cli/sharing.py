"""Commands under torchrun: which its processes share, and who speaks."""

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout

import torch

from spiking_resnet.processes import started
from spiking_resnet.processes.team import ALONE, Team, together

SHARED = ("evaluate", "compare", "tune", "reproduce")
APART = ("train",)  # it shares its batches in its own way


@contextmanager
def sharing(command: str) -> Iterator[Team | None]:
    """A context with the processes that share a command; None where this one has nothing to do.

    What no processes share is done by the first one alone. The others are silent.
    """
    if started() == 1 or command in APART:
        yield ALONE
        return
    if command not in SHARED and os.environ.get("RANK", "0") != "0":
        yield None
        return
    with ExitStack() as stack:
        team = stack.enter_context(together()) if command in SHARED else ALONE
        _take_threads(int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if team.count > 1 else 1)
        if not team.first:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
        yield team


def _take_threads(processes: int) -> None:
    """Take this process's share of the processors, unless OMP_NUM_THREADS says otherwise.

    It says 1 where torchrun has set it, which sees no processors.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, _processors() // processes))


def _processors() -> int:
    """The processors that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
