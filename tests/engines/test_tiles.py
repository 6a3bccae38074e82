"""The kernel of tiles, by its twin: at edges of tiles and bytes; and who may use the real one.

What every kernel is tested for is in test_kernel_steps.py and test_engines_native.py.
"""

import platform
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from test_kernel_steps import (
    DCGS,
    DIFFERENTIAL,
    FIRE,
    IMAGES,
    STEPS,
    Draw,
    Input,
    call_of,
    check,
    drawn,
)

from compiled import NATIVE, compiled, passed
from spiking_resnet.engines.cpu import kernel_costs, kernels, library
from spiking_resnet.engines.cpu.bit_code import Code

pytestmark = pytest.mark.skipif(library.library() is None, reason="the kernels are not compiled")

LARGEST = Code(127, True)  # spikes that fill a byte
AVX512 = library.INSTRUCTION_SETS.index("avx512")


def convolution(draw, shape, inner, code, weights, kernel=(3, 3), stride=1, factors=None):
    """A source that reaches a population of that shape. weights: (lowest, highest)."""
    pad = tuple(length // 2 for length in kernel)
    size = (2 * STEPS, IMAGES, inner, *((n - 1) * stride + 1 for n in shape[1:]))
    made = draw.whole(*weights, shape[0], inner, *kernel)
    options = {"stride": (stride, stride), "padding": pad}
    return Input(draw.numbers(code, *size), made, options, False, False, factors)


def case(seed, shape, sources, code, rule=FIRE, **options):
    """Neurons of any kind of that shape, behind these sources."""
    draw = Draw(seed)
    made = drawn(seed, rule, shift=0, alone=False, constant=None, current=None, stream=None)
    channels = shape[0]
    return replace(
        made, shape=shape, sources=sources, code=code, bias=draw.whole(-50, 50, channels),
        threshold=draw.whole(50, 900, channels), start=draw.whole(-50, 50, *shape),
        ceiling=None, **options,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("inner", "shape", "kernel"),
    [
        (64, (16, 4, 8), (1, 1)),  # all tiles are full
        (21, (16, 4, 8), (3, 1)),  # 63 bytes of a row of the kernel,
        (5, (17, 3, 11), (1, 13)),  # 65; one channel, and one position, too many
        (16, (48, 1, 17), (3, 3)),
        (65, (33, 1, 1), (1, 1)),  # steps fill tiles,
        (3, (15, 2, 5), (3, 3)),  # three at once,
        (4, (31, 4, 4), (3, 3)),  # two,
        (2, (1, 1, 31), (1, 5)),  # none
    ],
)
@pytest.mark.parametrize("weights", [(-128, 127), (-129, 127)], ids=["one plane", "two planes"])
def test_edges_of_tiles(inner, shape, kernel, weights):
    for stride in (1, 2):
        source = convolution(Draw(inner), shape, inner, Code(), weights, kernel, stride)
        source.weights[0, 0, 0, 0] = weights[0]
        assert "amx-twin" in check(case(inner, shape, [source], Code()))


@pytest.mark.parametrize("channels", [1, 3, 4, 8, 16, 32, 48, 64, 96])
@pytest.mark.parametrize("shape", [(5, 6, 16), (33, 5, 32), (17, 3, 48)])
@pytest.mark.parametrize("code", [Code(), Code(4, True)], ids=["binary", "signed"])
def test_rows_of_whole_tiles_overlap(channels, shape, code):
    """The bytes of a row are shared by the outputs that see them, in steps of any stride."""
    sources = [
        convolution(Draw(channels), shape, channels, code, (-200, 200), kernel, stride)
        for kernel, stride in [((3, 3), 1), ((1, 5), 2), ((5, 1), 2)]
    ]
    for source in sources:
        assert "amx-twin" in check(case(channels, shape, [source], code))
    assert "amx-twin" in check(case(channels, shape, sources, code), 3)


@pytest.mark.parametrize("shape", [(5, 4, 16), (48, 3, 7), (17, 2, 3), (33, 1, 1)])
@pytest.mark.parametrize("weights", [(-40, 40), (-300, 300)], ids=["one plane", "two planes"])
def test_neurons_that_fire_once_are_advanced_at_once(shape, weights):
    """Behind convolutions that are summed up together, with an identity and without."""
    draw = Draw(11)
    numbers = draw.numbers(Code(), 2 * STEPS, IMAGES, *shape)
    both = [convolution(draw, shape, inner, Code(), weights) for inner in (6, 20)]
    identity = Input(numbers, draw.whole(-90, 90, shape[0]), {}, True, False, None)
    for sources in (both[:1], both, [both[0], identity], [identity, *both]):
        plain = case(11, shape, sources, Code(), levels=1, signed=False, reset_to_zero=False)
        assert "amx-twin" in check(plain)
        assert "amx-twin" in check(replace(plain, reset_to_zero=True))


@pytest.mark.parametrize("code", [Code(), Code(127), LARGEST], ids=["binary", "127", "signed 127"])
@pytest.mark.parametrize("weight", [-32768, -32767, -256, -129, -128, 127, 128, 255, 32767])
def test_extremes_of_bytes(code, weight):
    source = convolution(Draw(1), (17, 2, 9), 4, code, (weight, weight))
    assert "amx-twin" in check(case(1, (17, 2, 9), [source], code))


@pytest.mark.parametrize("rule", [FIRE, DIFFERENTIAL, DCGS])
@pytest.mark.parametrize("shape", [(20, 3, 3), (20, 5, 9)], ids=["joined", "by row"])
def test_each_source_has_its_factors(rule, shape):
    """Also identities, sources in one plane beside others in two, and sums of many kinds."""
    draw = Draw(7)
    code = Code(8, True)
    factors = [draw.whole(-3, 9, 2 * STEPS) for _ in range(3)]
    numbers = draw.numbers(code, 2 * STEPS, IMAGES, *shape)
    sources = [
        Input(numbers, draw.whole(-40, 40, shape[0]), {}, True, False, factors[0]),
        convolution(draw, shape, 6, code, (-3, 3), factors=factors[1]),
        convolution(draw, shape, 9, code, (-300, 300), (1, 1), 2, factors[2]),
        Input(numbers, draw.whole(-40, 40, shape[0]), {}, True, False, None),
    ]
    assert "amx-twin" in check(case(7, shape, sources, code, rule))


def test_images_are_cut_into_parts():
    """Where a part ends, what the next one's outputs see is not what lay there before."""
    shape = (3, 21, 33)
    source = convolution(Draw(3), shape, 65, Code(), (-40, 40))
    for threads in (1, 3):
        assert "amx-twin" in check(case(3, shape, [source], Code()), threads)


@pytest.mark.parametrize("weight", [-32769, 32768])
def test_weights_of_more_than_16_bits_are_refused(weight):
    source = convolution(Draw(2), (3, 4, 4), 5, Code(), (weight, weight))
    call, *kept = call_of(case(2, (3, 4, 4), [source], Code()), slice(STEPS))
    assert call.refusals(kernels.named("amx-twin")) == ["sums as large as these"]
    del kept


def test_the_twin_is_never_the_quickest():
    source = convolution(Draw(4), (64, 8, 8), 64, Code(), (-40, 40))
    call = call_of(case(4, (64, 8, 8), [source], Code()), slice(STEPS))[0]
    able = [kernels.named(name) for name in ("amx-twin", "madd-portable", "scatter-portable")]
    costs = kernel_costs.measured()["portable"]
    twin, *others = (kernel_costs.price(costs, each, call, [1.0]) for each in able)
    assert twin > 10 * min(others)


ASKED = """
#include "amx_machine.h"
#include <cassert>
int main() {
    constexpr uint32_t tiles = 1u << 24, bytes = 1u << 25;
    constexpr uint64_t saved = 3u << 17;
    static_assert(amx::has_tiles(tiles | bytes, saved));
    static_assert(amx::has_tiles(~0u, ~uint64_t{0}));
    static_assert(!amx::has_tiles(tiles, saved) && !amx::has_tiles(bytes, saved));
    static_assert(!amx::has_tiles(~0u, ~uint64_t{0} - (1u << 17)));
    static_assert(!amx::has_tiles(~0u, ~uint64_t{0} - (1u << 18)));
    assert(!unsetenv("SPIKING_RESNET_AMX") && !amx::is_asked_for());
    assert(!setenv("SPIKING_RESNET_AMX", "0", 1) && !amx::is_asked_for());
    assert(!amx::is_usable());
    assert(!setenv("SPIKING_RESNET_AMX", "1", 1) && amx::is_asked_for());
    assert(!amx::is_usable());  // found out once
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
def test_tiles_are_used_where_they_are_and_were_asked_for(tmp_path):
    source, made = tmp_path / "asked.cpp", tmp_path / "asked"
    source.write_text(ASKED)
    subprocess.run(["g++", "-std=c++17", f"-I{NATIVE}", str(source), "-o", str(made)], check=True)
    subprocess.run([str(made)], check=True)


def test_the_kernel_is_not_used_where_it_was_not_asked_for():
    names = [each.name for each in kernels.available()]
    if library.INSTRUCTION_SETS[library.kernels().machine_level()] != "amx":
        assert "amx" not in names
    assert "amx-twin" in names


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="tiles are Intel's")
@pytest.mark.parametrize("optimised", ["-O0", "-O3"])
def test_the_instructions_do_what_their_twins_do(tmp_path, optimised):
    """By the processor, or where it has no tiles by a handler of its illegal instructions."""
    source, made = Path(__file__).with_name("tiles.cpp"), tmp_path / "tiles"
    flags = ["-std=c++17", optimised, "-mavx2", f"-I{NATIVE}", "-UNDEBUG", "-w"]
    subprocess.run(["g++", *flags, str(source), "-o", str(made), "-pthread"], check=True)
    found = subprocess.run([str(made)], check=True, capture_output=True, text=True).stdout
    assert found.strip() in ("carried out here", "the processor's tiles")


@pytest.mark.sweep
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++")
@pytest.mark.skipif(platform.machine() != "x86_64", reason="tiles are Intel's")
def test_the_kernel_of_tiles_runs_by_its_instructions(tmp_path):
    """All tests of the twin, of the real one in its place; without AVX-512, but for that."""
    vectors = ["-DWITH_AVX512"] * (library.kernels().machine_level() >= AVX512)
    source = Path(__file__).with_name("tiles_kernel.cpp")
    folder = compiled(tmp_path, "-O1", *vectors, source=source)
    files = ("test_tiles.py", "test_kernel_steps.py")
    said = passed(folder, *files, "-k", "not instructions")
    carried_out = int(said.rpartition("instructions: ")[2])
    assert carried_out > 10_000 or library.INSTRUCTION_SETS[library.level()] == "amx"
