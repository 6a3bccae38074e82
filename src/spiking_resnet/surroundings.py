"""Set PyTorch's global and thread state as this package's arithmetic needs it, for a while.

Autocast, grad and inference mode and the default device belong to a thread, the precision of
float32 products to the process: `undisturbed` sets them for as long as it is open. The default
dtype belongs to the process and cannot be set for a while without disturbing other threads, so
every constructor of a tensor in this package states its dtype (tests/test_surroundings.py).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from threading import Lock
from typing import Any

import torch
from torch import nn

_KINDS = ("cpu", "cuda")  # of devices that may have an autocast


@dataclass(frozen=True)
class Modes:
    """What a thread's code inherits. autocast: the dtypes of those that are on, by kind of device.

    Foreign code that is called back, such as the user's loader, runs in its own: `Modes.now()` when
    it was handed over, `entered()` around every call.
    """

    grad: bool
    inference: bool
    device: torch.device
    autocast: tuple[tuple[str, torch.dtype], ...] = ()

    @classmethod
    def now(cls) -> "Modes":
        """The modes of this thread at present."""
        on = tuple((k, torch.get_autocast_dtype(k)) for k in _KINDS if torch.is_autocast_enabled(k))
        return cls(
            grad=torch.is_grad_enabled(),
            inference=torch.is_inference_mode_enabled(),
            device=torch.get_default_device(),
            autocast=on,
        )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This thread has these modes while it is open."""
        before, wanted = Modes.now(), dict(self.autocast)
        if before == self:
            yield
            return
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode(self.inference))
            stack.enter_context(torch.set_grad_enabled(self.grad))
            if self.device != before.device:
                stack.enter_context(self.device)
            for kind in {**dict(before.autocast), **wanted}:
                on = kind in wanted
                stack.enter_context(torch.autocast(kind, wanted.get(kind), enabled=on))
            yield


OWN = Modes(grad=False, inference=False, device=torch.device("cpu"))
TRAINING = Modes(grad=True, inference=False, device=torch.device("cpu"))


class _Float32:
    """Full float32 in convolutions and matrix products as long as any thread asks for it."""

    def __init__(self) -> None:
        self.lock, self.users, self.before = Lock(), 0, _FULL

    @contextmanager
    def entered(self) -> Iterator[None]:
        """No backend rounds the factors of float32 products while it is open."""
        with self.lock:
            self.users += 1
            if self.users == 1:
                self.before = _Precision.now()
                _FULL.set()
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if not self.users:
                    self.before.set()


@dataclass(frozen=True)
class _Precision:
    """How exactly float32 is multiplied: torch's older settings, and the newer of every backend.

    Both are set: torch refuses to read the older ones where the newer contradict them.
    """

    products: str
    cudnn: bool
    backends: tuple[str, ...]

    @classmethod
    def now(cls) -> "_Precision":
        """The settings at present."""
        backends = tuple(backend.fp32_precision for backend in _backends())
        try:
            products, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
        except RuntimeError:  # the newer contradict them: these decide
            products, cudnn = "highest", True
        return cls(products, cudnn, backends)

    def set(self) -> None:
        """Set this, for the whole process."""
        torch.set_float32_matmul_precision(self.products)
        torch.backends.cudnn.allow_tf32 = self.cudnn
        for backend, precision in zip(_backends(), self.backends, strict=True):
            if backend.fp32_precision != precision:
                backend.fp32_precision = precision


def _backends() -> tuple[Any, ...]:
    found: Any = torch.backends
    return (
        *(found.cuda.matmul, found.cudnn.conv, found.cudnn.rnn),
        *(found.mkldnn.matmul, found.mkldnn.conv),
    )


_FULL = _Precision("highest", False, ("ieee",) * 5)
_FLOAT32 = _Float32()


@contextmanager
def undisturbed(device: torch.device = OWN.device) -> Iterator[None]:
    """A context without autocast and gradients, with new tensors on `device` and full float32.

    Not around a `yield`: whoever reads the values would inherit it too.
    """
    with Modes(OWN.grad, OWN.inference, device).entered(), _FLOAT32.entered():
        yield


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """A context in which every module of a model is in evaluation mode; restored at its end."""
    before = [(module, module.training) for module in model.modules()]
    with suppress(NotImplementedError):  # of torch.export's own modules, which have one mode
        model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
