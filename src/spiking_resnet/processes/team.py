"""A team of processes that share the work of one call, each with a part of the images.

torchrun keeps a store of keys and bytes that all its processes reach, on whatever machine. All that
a team says goes through it, as bytes and JSON: nothing is unpickled, and only the first process
needs a disk. Every process makes the same calls in the same order; each is a step, which ends for
all as it ends for one: what one raises, all raise.

What no exception tells, such as a machine that is gone, is seen by a heart that stops beating.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count as counting
from threading import Event, Thread
from typing import Any, TypeVar

import torch

from spiking_resnet.files import written_elsewhere
from spiking_resnet.processes import Member, started
from spiking_resnet.processes.messages import (
    Collected,
    Given,
    Step,
    elsewhere,
    problem_of,
    put,
    raised,
    taken,
    told,
)

_DISTRIBUTED: Any = torch.distributed
BEAT, SILENT = 2.0, 60.0  # seconds between two beats; without one, after which a process is lost
_JOINING = timedelta(minutes=10)  # for all processes to come
_SPEECH = 10.0  # seconds that the others wait for the one who tells an error
_SHORTEST, _LONGEST = 0.005, 0.2  # seconds between two looks while waiting

T = TypeVar("T")


class TeamError(ValueError):
    """A process of the team that failed, is lost, or has other images; the message says which."""


@dataclass(frozen=True, eq=False)
class Team(Member):
    """This process among those that share the work of one call; alone, it does all of it.

    In a team the results are those of one process, bit for bit: what is shared out is counted in
    whole numbers, and all else is made by the first.
    """

    store: Any = None
    _steps: Iterator[int] = field(default_factory=counting)
    _beats: dict[int, tuple[bytes, float]] = field(default_factory=dict)

    def handed(
        self, make: Callable[[], T], pack: Callable[[T], bytes], unpack: Callable[[bytes], T]
    ) -> T:
        """What `make` returns, or raises, in the first process; the others are handed it."""
        if self.count == 1:
            return make()
        step = self._step()
        if not self.first:
            self._await(step)
            content = taken(step)
            if step.add("taken", 1) == self.count - 1:
                step.clear()
            return unpack(content)
        try:
            made = make()
            put(step, pack(made))
        except Exception as error:
            step.end(told(error))
            raise
        step.end()
        return made

    @contextmanager
    def shared(
        self, receive: Callable[[T], None], pack: Callable[[T], bytes],
        unpack: Callable[[bytes], T],
    ) -> Iterator[Callable[[T], None]]:  # fmt: skip
        """A context in which all work: what anyone gives to its function, the first one receives.

        It ends when all have ended it and everything is received. receive: called in the first
        process alone, for one thing at a time, in any order, from a thread of its own too.
        """
        if self.count == 1:
            yield receive
            return
        step = self._step()
        try:
            if self.first:
                with Collected(step, receive, unpack) as collected:
                    yield collected.give
                    self._wait(lambda: collected.complete(self.count - 1))
            else:
                yield Given(step, pack).give
                step.add("ended", 1)
        except Exception as error:
            own = told(error)
            first = step.end(own)
            if first == own:
                raise
            raise raised(first) from error
        if self.first:
            step.end()
        self._await(step)

    def same(self, what: str, value: str) -> None:
        """Raise TeamError in all processes where one has another value than the first."""
        if self.count == 1:
            return
        theirs = self.handed(lambda: value, str.encode, bytes.decode)
        with self.shared(lambda _: None, bytes, bytes):
            if value != theirs:
                raise TeamError(
                    f"process {self.rank} of {self.count} has other {what} than the first: give "
                    "all the same files, and batches in one order"
                )

    def total(self, number: int) -> int:
        """The sum over all processes of a number that each of them has."""
        found = [0]

        def add(one: int) -> None:
            found[0] += one

        with self.shared(add, _packed, _unpacked) as give:
            give(number)
        return self.handed(lambda: found[0], _packed, _unpacked)

    def speaks(self, error: Exception) -> bool:
        """Whether it is this process that tells the error by which it ends; one of all does.

        The others wait until it `has_spoken`, for torchrun kills all when one has ended.
        """
        if self.count == 1:
            return True
        try:
            if not elsewhere(error) and self.store.add("speaking", 1) == 1:
                return True
            until = time.monotonic() + _SPEECH
            while time.monotonic() < until and not self.store.check(["spoken"]):
                time.sleep(_LONGEST)
        except RuntimeError:  # the store is gone, with the first machine
            return os.environ.get("LOCAL_RANK", "0") == "0"
        return False

    def has_spoken(self) -> None:
        """Let the others end."""
        if self.count > 1:
            with suppress(RuntimeError):
                self.store.set("spoken", "")

    def _step(self) -> Step:
        return Step(self.store, next(self._steps))

    def _await(self, step: Step) -> None:
        """Wait for the end of a step; raise what ended it."""
        self._wait(step.ended)
        if problem := problem_of(step):
            raise raised(problem)

    def _wait(self, over: Callable[[], bool]) -> None:
        """Wait until something is over, or TeamError where it will never be."""
        pause = _SHORTEST
        while not over():
            self._look()
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)

    def _look(self) -> None:
        """Raise TeamError where a process has left, or is silent."""
        if self.store.check(["left"]):
            raise raised(told(TeamError("another process failed")))
        for rank in range(1, self.count) if self.first else ():
            self._hear(rank)

    def _hear(self, rank: int) -> None:
        now = time.monotonic()
        beat, since = self._beats.get(rank, (b"", now))
        if now - since < BEAT and beat:
            return
        key = f"beat {rank}"
        heard = self.store.get(key) if self.store.check([key]) else b""
        if heard != beat or rank not in self._beats:
            self._beats[rank] = heard, now
        elif now - since > SILENT:
            raise TeamError(
                f"process {rank} of {self.count} does not answer any more: run the same command "
                "again, it goes on with what is counted"
            )

    @contextmanager
    def beating(self) -> Iterator[None]:
        """A context in which a thread tells every BEAT seconds that this process is there."""
        over = Event()

        def beat() -> None:
            number = 0
            while not over.wait(BEAT):
                number += 1
                try:
                    self.store.set(f"beat {self.rank}", str(number))
                except RuntimeError:  # the store is gone: whoever waits finds out
                    return

        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def leave(self) -> None:
        """End the work; the first process, which may keep the store, is the last to go."""
        if self.store.add("leaving", 1) < self.count and self.first:
            self._wait(lambda: bool(self.store.add("leaving", 0) == self.count))


def _packed(number: int) -> bytes:
    return str(number).encode()


def _unpacked(content: bytes) -> int:
    return int(content)


ALONE = Team()
_current: ContextVar[Team] = ContextVar("team", default=ALONE)


def current() -> Team:
    """The team of this thread; one process alone unless `together` is open."""
    return _current.get()


@contextmanager
def together() -> Iterator[Team]:
    """A context in which the processes that torchrun started share the work of every call.

    All must make the same calls in it: `evaluate`, `compare`, `tune`, `convert`. Without torchrun,
    and inside another one, it changes nothing.
    """
    if started() == 1 or current().count > 1:
        yield current()
        return
    store, rank, count = next(iter(_DISTRIBUTED.rendezvous("env://", timeout=_JOINING)))
    with working(Team(rank, count, _DISTRIBUTED.PrefixStore("team", store))) as team:
        yield team


@contextmanager
def working(team: Team) -> Iterator[Team]:
    """A context in which this thread belongs to a team, whose first process writes all files.

    All leave it together.
    """
    if team.store.add(f"joined {team.rank}", 1) > 1:
        raise TeamError(
            f"process {team.rank} of {team.count} is there already: wait until its run has ended"
        )
    before = _current.set(team)
    try:
        with team.beating(), nullcontext() if team.first else written_elsewhere():
            yield team
            team.leave()
    except BaseException:
        with suppress(RuntimeError):  # the store is gone
            team.store.set("left", str(team.rank))
        raise
    finally:
        _current.reset(before)
