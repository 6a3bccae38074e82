"""Which images are counted: ascending spans [first, end) of places in the order of the loader."""

from collections.abc import Iterable, Iterator
from typing import Any

from spiking_resnet.images import images_of
from spiking_resnet.processes.team import Team
from spiking_resnet.records import InputError

Span = tuple[int, int]


class ResumeError(InputError):
    """A progress file that does not belong to this evaluation; the message says what differs."""


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The spans in ascending order, neighbours made one; ValueError where they overlap."""
    found: list[Span] = []
    for first, end in sorted(spans):
        if first < 0 or end <= first:
            raise ValueError(f"images {first} to {end} are no span")
        if found and first < found[-1][1]:
            raise ValueError(f"image {first} is counted twice")
        if found and first == found[-1][1]:
            found[-1] = found[-1][0], end
        else:
            found.append((first, end))
    return tuple(found)


def uncounted(
    loader: Iterable[Any], counted: tuple[Span, ...], team: Team
) -> Iterator[tuple[Span, Any]]:
    """This process's batches that are not counted yet, each with the span of its images.

    Of n processes each has every n-th of them. Of a loader that knows its `spans`, as
    `ann.Batches`, no other batch is read. Raises ResumeError where counted images are no batches.
    """
    if hasattr(loader, "spans"):
        known: tuple[Span, ...] = loader.spans
        left = [span for span in known if not _held(counted, span)]
        _check_end(counted, known[-1][1] if known else 0)
        own = left[team.rank :: team.count]
        return zip(own, loader.only(own), strict=True)  # type: ignore[attr-defined]
    return _picked(loader, counted, team)


def _picked(
    loader: Iterable[Any], counted: tuple[Span, ...], team: Team
) -> Iterator[tuple[Span, Any]]:
    """`uncounted` of any loader, all of which is read."""
    end, number = 0, 0
    for batch in loader:
        span = end, end + len(images_of(batch))
        end = span[1]
        if _held(counted, span):
            continue
        if number % team.count == team.rank:
            yield span, batch
        number += 1
    _check_end(counted, end)


def _held(counted: tuple[Span, ...], span: Span) -> bool:
    """Whether a batch is counted; ResumeError where a part of it is."""
    first, end = span
    within = sum(max(0, min(end, theirs) - max(first, own)) for own, theirs in counted)
    if 0 < within < end - first:
        raise ResumeError(
            f"the progress ends after {next(e for _, e in counted if e > first)} images, where no "
            "batch does: use the same batch size"
        )
    return within > 0


def _check_end(counted: tuple[Span, ...], images: int) -> None:
    if counted and counted[-1][1] > images:
        raise ResumeError(f"the progress has {counted[-1][1]} images, the loader only {images}")
