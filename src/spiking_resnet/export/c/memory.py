"""Where values lie in memory: those that are not needed at the same time share their place."""

from math import prod

from spiking_resnet.export.c.layout import Layout, Population, Target


def places(found: Layout) -> tuple[dict[str, int], int]:
    """Return where the spikes of every value begin, by its name, and how many entries there are."""
    made: dict[str, int] = {}  # by value: the operation that writes it first
    last: dict[str, int] = {}  # and the last that reads it
    for number, operation in enumerate(found.operations):
        if isinstance(operation, Population):
            written, read = operation.target.name, _read(operation.target)
        else:
            written, read = operation.name, [operation.read]
        made.setdefault(written, number)
        last[written] = max(last.get(written, number), number)
        for name in read:
            last[found.aliases.get(name, name)] = number
    for name in _read(found.output):
        last[found.aliases.get(name, name)] = len(found.operations)
    where: dict[str, int] = {}
    for name, begin in made.items():
        taken = sorted(
            (where[other], where[other] + prod(found.shapes[other]))
            for other in where
            if made[other] <= last[name] and begin <= last[other]
        )
        where[name] = _gap(taken, prod(found.shapes[name]))
    return where, max(where[name] + prod(found.shapes[name]) for name in where)


def _read(target: Target) -> list[str]:
    return [synapses.read for synapses in target.sources]


def _gap(taken: list[tuple[int, int]], size: int) -> int:
    """The first place of this size between the ones that are taken, in order."""
    place = 0
    for begin, end in taken:
        if begin - place >= size:
            break
        place = max(place, end)
    return place
