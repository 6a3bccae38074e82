"""Random graphs against the interpreter: kernels x threads x windows x batches x brightness.

Few, to be fast. To look for more: make fuzz (FUZZ_GRAPHS=1000 pytest tests/test_fuzz.py).
"""

import os
from contextlib import contextmanager

import pytest
import torch

from fuzz import LIMIT, drawn
from spiking_resnet import simulate
from spiking_resnet.engines.cpu import kernels, library, memory
from spiking_resnet.engines.simulate import ENGINES

COUNT = int(os.environ.get("FUZZ_GRAPHS", "32"))
FIRST = int(os.environ.get("FUZZ_FIRST", "0"))  # of the seeds
PART = 4  # graphs in a test
LONG = 500  # steps: beyond what most of them are exact for
BRIGHTNESS = [1e-3, 0.3, 1.0, 1.0, 1.0, 3.0, 1e3, 1e6]  # of an image; 1 is as in calibration


def chosen():
    """(instruction set, kernel) of all that this machine has; the kernel None is the quickest."""
    known = library.INSTRUCTION_SETS[: library.kernels().machine_level() + 1]
    named = [(known[k.instruction_set], k.name) for k in kernels.available()]
    return [*named, *((level, None) for level in known)]


@contextmanager
def using(level, kernel, threads=1):
    before = library.instruction_set, library.kernel, torch.get_num_threads()
    library.instruction_set, library.kernel = level, kernel
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        library.instruction_set, library.kernel = before[:2]
        torch.set_num_threads(before[2])


def same(found, expected, what):
    """Fails unless two runs are the same, spike for spike."""
    for layer, train in expected.trains.items():
        assert torch.equal(found.trains[layer].long(), train.long()), f"{what}: spikes of {layer}"
        assert torch.equal(found.spikes[layer].spikes, expected.spikes[layer].spikes), what
        assert torch.equal(found.neuron_spikes[layer], expected.neuron_spikes[layer]), what
    assert torch.equal(found.logits, expected.logits), f"{what}: logits"
    assert (found.exact, found.remark) == (expected.exact, expected.remark), what


class Case:
    """A graph, images of some brightness, and what the interpreter makes of them."""

    def __init__(self, seed, small=False):
        self.graph, self.rng = drawn(seed, small)
        self.seed, rng = seed, self.rng
        count = 1 if small else rng.randint(1, 7)
        steps = rng.choice([1, 2, 5, 8, 9, 16, 17, 24, 33])
        generator = torch.Generator().manual_seed(seed)
        self.images = torch.randn(count, *self.graph.input.shape, generator=generator)
        self.images = self.images.clamp(-LIMIT, LIMIT) * rng.choice(BRIGHTNESS)
        often = rng.sample(
            range(1, steps + 1), rng.randint(1, steps if small else 2 if steps > 1 else 1)
        )
        self.record = tuple(sorted({*often, steps}))
        self.expected = self.run("interpreter")

    def run(self, engine, images=None, record=None, window=None):
        names, record = list(self.graph.neurons), record or self.record
        images = self.images if images is None else images
        asked = {"trains": names, "neurons": names, "window": window}
        return simulate(self.graph, images, record[-1], record, engine, **asked)

    def check(self, engine, what, **options):
        """Another engine's run is the interpreter's; beyond the exact range it says so too."""
        what = f"seed {self.seed}, {what}"
        run = self.run(engine, **options)
        if self.expected.exact:
            same(run, self.expected, what)
        else:
            assert not run.exact, what
            assert run.remark, what

    @property
    def engines(self):
        return [name for name in ENGINES if not ENGINES[name].unsupported(self.graph)]

    def every_kernel(self):
        """Every kernel with one thread and with several, in windows of any length."""
        engine, several = "auto" if "cpu" in self.engines else "layerwise", self.rng.randint(2, 5)
        for level, kernel in chosen():
            for threads, window in ((1, None), (1, 1), (several, self.rng.randint(1, 7))):
                with using(level, kernel, threads):
                    what = f"{level}/{kernel}, {threads} threads, window {window}"
                    self.check(engine, what, window=window)
        self.check("layerwise", "layerwise", window=self.rng.choice([None, 1, 2, 5]))


@pytest.fixture(autouse=True)
def _poisoned(monkeypatch):
    monkeypatch.setattr(memory, "poisoned", True)
    torch_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(torch_threads)


def parts(share, first=0):
    """The seeds of every test: a share of all graphs."""
    seeds = range(FIRST + first, FIRST + first + max(PART, round(COUNT * share)))
    return [seeds[i : i + PART] for i in range(0, len(seeds), PART)]


@pytest.mark.parametrize("seeds", parts(0.4), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_every_kernel_gives_the_interpreters_spikes(seeds):
    for seed in seeds:
        Case(seed).every_kernel()


@pytest.mark.sweep
@pytest.mark.parametrize("seeds", parts(0.3, 12), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_one_small_image_read_out_often(seeds):
    """One word of spikes a layer: what is moved may be the same memory."""
    for seed in seeds:
        Case(seed, small=True).every_kernel()


@pytest.mark.sweep
@pytest.mark.parametrize("seeds", parts(0.15), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_the_same_graph_again_in_other_ways(seeds):
    """Short, then long; other batches, orders and numbers of threads; the first run once more."""
    for seed in seeds:
        case = Case(seed)
        if "cpu" not in case.engines:
            continue
        long = simulate(case.graph, case.images, LONG, engine="layerwise")
        for threads in (1, 3):
            with using("avx512", None, threads):
                case.run("auto", record=(1,))
                case.check("auto", f"{threads} threads, after one step")
                again = simulate(case.graph, case.images, LONG)
                assert again.exact == long.exact, seed
                if long.exact:
                    assert torch.equal(again.logits, long.logits), seed
                order = torch.randperm(len(case.images))
                mixed = case.run("auto", images=case.images[order])
                parts = [case.run("auto", images=image[None]) for image in case.images]
                if case.expected.exact:
                    assert torch.equal(mixed.logits, case.expected.logits[:, order]), seed
                    alone = torch.cat([part.logits for part in parts], 1)
                    assert torch.equal(alone, case.expected.logits), seed
                case.check("auto", "the first run once more")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("seeds", parts(0.075), ids=lambda seeds: f"{seeds[0]}-{seeds[-1]}")
def test_other_defaults_change_nothing(seeds, dtype):
    for seed in seeds:
        case = Case(seed)
        torch.set_default_dtype(dtype)
        try:
            with torch.autocast("cpu"):
                for engine in ("auto", "layerwise", "interpreter"):
                    case.check(engine, f"{engine} with the default {dtype}")
        finally:
            torch.set_default_dtype(torch.float32)


def test_the_graphs_are_worth_it():
    """Most populations of most graphs fire, and not at every step."""
    alive = total = exact = 0
    for seed in range(20):
        case = Case(seed)
        exact += case.expected.exact
        rates = [float(train.bool().float().mean()) for train in case.expected.trains.values()]
        alive += sum(0 < rate < 1 for rate in rates)
        total += len(rates)
    assert alive > total / 2
    assert exact >= 10
