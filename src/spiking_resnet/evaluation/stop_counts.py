"""The running counts of images that stop by a rule: whole numbers, which add up in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor

from spiking_resnet.codec import Record
from spiking_resnet.costs.operations import Costs
from spiking_resnet.records import LayerCount, Point, Run, Stop, Stopped, decisions, margins
from spiking_resnet.shares import wilson

_SUMS = ("correct", "kept", "lost", "gained")


@dataclass(frozen=True)
class StopCounts(Record):
    """The counts of images that stop by a rule.

    ended: how many at each of rule.steps. correct, kept, lost, gained, agreed: as of a `Stopped`,
    in images; agreed is None without an ANN. spikes: of every layer, until its image stopped.
    """

    rule: Stop
    ended: tuple[int, ...] = ()
    correct: int = 0
    kept: int = 0
    lost: int = 0
    gained: int = 0
    agreed: int | None = None
    spikes: Mapping[str, int] = field(default_factory=dict)

    def of_batch(self, run: Run, labels: Tensor, reference: Tensor | None) -> "StopCounts":
        """The counts of one batch alone.

        run: read out at all of rule.steps. labels: int64 [N]. reference: the ANN's logits [N, K].
        """
        own = read_out_at(run, self.rule.steps)
        logits = own.logits.cpu()
        ends, decided = self.rule.ends(margins(logits)), decisions(logits)
        chosen = decided.gather(0, ends[None])[0]
        right, full_right = chosen == labels, decided[-1] == labels
        return StopCounts(
            self.rule,
            ended=tuple(ends.bincount(minlength=len(self.rule.steps)).tolist()),
            correct=int(right.sum()),
            kept=int((chosen == decided[-1]).sum()),
            lost=int((full_right & ~right).sum()),
            gained=int((right & ~full_right).sum()),
            agreed=None if reference is None else int((chosen == decisions(reference)).sum()),
            spikes={
                name: int(count.spikes.cpu().gather(0, ends[None]).sum())
                for name, count in own.spikes.items()
            },
        )

    def plus(self, other: "StopCounts") -> "StopCounts":
        """The counts of both, which have no image in common."""
        if not self.ended or not other.ended:
            return self if self.ended else other
        agreed = None
        if self.agreed is not None and other.agreed is not None:
            agreed = self.agreed + other.agreed
        return replace(
            self,
            ended=tuple(a + b for a, b in zip(self.ended, other.ended, strict=True)),
            agreed=agreed,
            spikes={name: count + other.spikes[name] for name, count in self.spikes.items()},
            **{name: getattr(self, name) + getattr(other, name) for name in _SUMS},
        )

    def stopped(self, full: Point, costs: Costs) -> Stopped:
        """The results that these counts give. full: of the run to rule.full steps."""
        images = sum(self.ended)
        layers = {name: count / images for name, count in self.spikes.items()}
        found = Stopped(
            rule=self.rule,
            images=images,
            ended=self.ended,
            accuracy=self.correct / images,
            interval=wilson(self.correct, images),
            agreement=None if self.agreed is None else self.agreed / images,
            kept=self.kept / images,
            lost=self.lost,
            gained=self.gained,
            spikes_per_image=sum(layers.values()),
            operations=0.0,
            layers=layers,
            full=full,
            full_operations=costs.operations(full),
        )
        return replace(found, operations=costs.spent(layers, found.mean_steps))


def read_out_at(run: Run, steps: Sequence[int]) -> Run:
    """A run as it was read out at these steps alone; each must be one of `run.record`."""
    rows = [run.record.index(step) for step in steps]
    spikes = {
        name: LayerCount(count.neurons, count.spikes[rows]) for name, count in run.spikes.items()
    }
    return replace(run, record=tuple(steps), logits=run.logits[rows], spikes=spikes)
