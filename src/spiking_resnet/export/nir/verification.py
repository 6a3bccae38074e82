"""The record of a verification: who fires the spikes that an NIR file stands for."""

from dataclasses import dataclass

from spiking_resnet.codec import Record

OWN = "executor, as the file says"
GOLDEN = "golden spikes in the file"


@dataclass(frozen=True)
class Reading(Record):
    """What one reader made of a file, against what this package fires for it.

    reader: its name. versions: of its packages. different: spikes that differ, of all neurons and
    steps; None where it could not run, and `problem` says why. step, layer: where the first of them
    is (1 is the first step), in the order of the network. why: how it steps neurons otherwise than
    the file says, what matters first before the rest. explained: whether stepping so accounts for
    every single spike; None where nothing has to be explained. same: on how many images its
    outputs, summed, decide as this package's do; right: how many of these decisions are right.
    """

    reader: str
    different: int | None
    versions: str = ""
    problem: str = ""
    step: int | None = None
    layer: str | None = None
    why: str = ""
    explained: bool | None = None
    same: int | None = None
    right: int | None = None

    @property
    def exact(self) -> bool:
        """Whether it fired the same spikes."""
        return self.different == 0


@dataclass(frozen=True)
class Verification(Record):
    """Who fires the spikes that an NIR file stands for.

    file: its name. profile: whom it was written for. images, steps: what was run. neurons, spikes:
    how many this package has, and fires. right: how many of its decisions are right; None without
    labels. changes: what was changed for the file's reader, in words.
    """

    file: str
    profile: str
    images: int
    steps: int
    neurons: int
    spikes: int
    readings: tuple[Reading, ...]
    right: int | None = None
    changes: tuple[str, ...] = ()

    @property
    def sound(self) -> bool:
        """Whether the file says what this package fires: by its own executor, and by its spikes."""
        return all(each.exact for each in self.readings if each.reader in (OWN, GOLDEN))
