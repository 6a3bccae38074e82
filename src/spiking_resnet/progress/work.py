"""Work that is under way: how far it is, and how long it will still take."""

import time

from spiking_resnet.progress import times


class Work:
    """Work that is under way, and how far it is.

    what: is being done. done, total: in `unit` (images); without a unit they are shares. total:
    None where it is not known. note: what is measured meanwhile. plan: all that is to be done, for
    an estimate in one line. most: whether it may end before all is done.
    """

    def __init__(
        self, what: str, total: float | None = None, unit: str = "images", plan: str = "",
        most: bool = False,
    ) -> None:  # fmt: skip
        self.what, self.total, self.unit, self.plan = what, total, unit, plan
        self.most = "at most " if most else ""
        self.prefix = ""
        self.before, self.note = 0.0, ""
        self.began = self.started = time.monotonic()
        self.done = 0.0
        self.estimated = not plan

    def images(self, done: int, right: int | None = None) -> None:
        """Tell of images done, and how many of them were right."""
        if right is not None and done:
            self.note = f"accuracy {100 * right / done:.1f} %"
        self.done = done

    def part(self, what: str, done: float, total: float) -> None:
        """Tell what is being done, and the work done of all."""
        self.what, self.note = f"{self.prefix}{what}", ""
        self.done, self.total = done, total

    def planned(self, plan: str) -> None:
        """Tell what all of the work is, which begins now, for an estimate that is said once."""
        self.plan, self.estimated = f"{self.prefix}{plan}", False
        self.started = time.monotonic()

    def skip(self, amount: float) -> None:
        """Tell of work that was done before, and took none of this time."""
        self.before += amount

    @property
    def done(self) -> float:
        """What is done."""
        return self._done

    @done.setter
    def done(self, done: float) -> None:
        self._done, self._told = done, time.monotonic()

    @property
    def age(self) -> float:
        """The seconds since it began."""
        return time.monotonic() - self.began

    @property
    def left(self) -> float | None:
        """The seconds that it will still take, if it goes on like this; None if nobody knows."""
        now = self.done - self.before
        if self.total is None or now <= 0:
            return None
        taken = self._told - self.started
        since = time.monotonic() - self._told
        return max(0.0, taken * (self.total - self.done) / now - since)

    @property
    def known(self) -> bool:
        """Whether enough is done to say how long it will take."""
        if not self.total or self.left is None:
            return False
        enough = (self.done - self.before) / self.total >= times.ENOUGH
        return self.age > (times.SILENCE if enough else times.PAUSE)

    @property
    def amount(self) -> str:
        """How far it is, in words."""
        if not self.unit and self.most:
            return ""
        if not self.unit:
            return f"{100 * self.done / self.total:.0f} %" if self.total else ""
        of = "" if self.total is None else f" of {self.total:,.0f}"
        return f"{self.done:,.0f}{of} {self.unit}" if self.done or of else ""

    @property
    def line(self) -> str:
        """All of it in a line."""
        left = "" if self.left is None else f"{self.most}about {duration(self.left)} left"
        parts = (self.amount, self.note, f"{duration(self.age)}", left)
        return f"{self.what}: {', '.join(filter(None, parts))}"

    @property
    def estimate(self) -> str:
        """How long all of it takes, in words."""
        return f"{self.most}about {duration(self.age + (self.left or 0.0))}: {self.plan}"

    @property
    def stopped(self) -> str:
        """How far it was when it was stopped."""
        if self.unit or not self.amount:
            return f"stopped at {self.amount}" if self.amount else "stopped"
        return f"stopped after {self.amount} of the work"


def duration(seconds: float) -> str:
    """A time in words, with no more digits than an estimate has: "40 s", "12 min", "2.5 h"."""
    if seconds < 95:
        return f"{seconds:.0f} s" if seconds < 10 else f"{10 * round(seconds / 10)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 10 else f"{hours:.0f} h"
