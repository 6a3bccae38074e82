"""The processes that torchrun started, or one alone."""

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Member:
    """This process among those that work together. rank: its number, from 0."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether it is the one that writes files and speaks."""
        return self.rank == 0

    def device(self, name: torch.device | str) -> torch.device:
        """The device of this process: of several on "cuda", each has a GPU of its own."""
        wanted = torch.device(name)
        if self.count > 1 and wanted.type == "cuda" and wanted.index is None:
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", self.rank)))
        return wanted


def started() -> int:
    """How many processes torchrun started together; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))
