"""Which kernels take a computation, which one is used, and what it makes of the weights."""

from collections.abc import Sequence
from threading import Lock

from torch import Tensor

from spiking_resnet.engines.cpu import kernels, library
from spiking_resnet.engines.cpu.kernel_costs import quickest
from spiking_resnet.engines.cpu.kernels import Call, Kernel

SHADES = 64  # of densities that a kernel is chosen for, evenly spread


class Fitting:
    """What is known of the kernels for one computation; it serves any number of threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._tables: dict[Kernel, Tensor] = {}
        self._refused: dict[Kernel, int] = {}  # features, as bits
        self._chosen: dict[tuple[int, ...], Kernel] = {}

    def kernels(self, call: Call) -> list[Kernel]:
        """What there is to choose from for one simulation, the first of which `call` is."""
        asked = call.features()
        known = [kernel for kernel in kernels.available() if not asked & ~kernel.honours]
        with self._lock:
            for kernel in known:
                if kernel not in self._refused:
                    self._refused[kernel] = call.refused(kernel)
            return [kernel for kernel in known if not self._refused[kernel]]

    def choice(self, call: Call, rates: Sequence[float]) -> Kernel:
        """The kernel for a simulation whose first window `call` is: the quickest for runs of this
        size, with about so many spikes. rates: of every source, the share of bits that are set.
        """
        if library.kernel is not None:
            return choose(self.kernels(call), call, rates)
        run = call.population
        shades = (int(SHADES * rate) for rate in rates)
        key = (run.images, run.steps, call.features(), library.level(), *shades)
        found = self._chosen.get(key)
        if found is None:
            found = self._chosen[key] = choose(self.kernels(call), call, rates)
        return found

    def tables(self, kernel: Kernel, call: Call) -> Tensor:
        """What the kernel makes of the weights, which takes long once; bytes."""
        with self._lock:
            if kernel not in self._tables:
                self._tables[kernel] = call.tables(kernel)
            return self._tables[kernel]


def choose(fitting: Sequence[Kernel], call: Call, rates: Sequence[float]) -> Kernel:
    """The quickest of these kernels. rates: of every source, the share of bits that are set."""
    for kernel in fitting:
        if kernel.name == library.kernel:
            return kernel
    if len(fitting) == 1:
        return fitting[0]
    return quickest(fitting, call, rates)
