"""Studies that tests have the time for: chapters of few recipes and few time steps."""

from contextlib import contextmanager

from spiking_resnet.evaluation import chapters, compare


def shorten(monkeypatch):
    """Give every chapter its first three recipes and a step or two."""
    whole = chapters.chapters

    def short(classes):
        few = {"paper": (4, chapters.PAPER_STEPS), "few": (2,)}
        return {
            name: chapters.Chapter(name, each.title, few.get(name, (4,)), each.recipes[:3])
            for name, each in whole(classes).items()
        }

    monkeypatch.setattr(chapters, "chapters", short)


@contextmanager
def four_levels_fail(monkeypatch):
    """Methods of four levels cannot be converted while it is open."""
    make = compare.make

    def failing(subject, method):
        if method.levels == 4:
            raise ValueError("it ran away")
        return make(subject, method)

    with monkeypatch.context() as patched:
        patched.setattr(compare, "make", failing)
        yield
