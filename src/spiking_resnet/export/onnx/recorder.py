"""A record of the torch calls on tensors that come from a network's inputs, as ONNX operations.

The nodes and neurons of a graph compute as they always do, on real tensors of one image; what they
call is written down, so no equation stands a second time. Tensors that depend on no input are
constants. The first axis is the batch: no shape that is written down says how large it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from spiking_resnet.export.format import ExportError

TYPES = {torch.float32: 1, torch.int64: 7, torch.bool: 9, torch.float64: 11}  # TensorProto's


@dataclass(frozen=True)
class Operation:
    """An operation of ONNX: its type, what it reads, writes, and its attributes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Recorder(TorchFunctionMode):
    """A context in which torch calls on what came from inputs are written down.

    builders: by a call's name, a function of (recorder, result, arguments) that writes it down and
    returns the result's name.
    """

    def __init__(self, builders: Mapping[str, Any]) -> None:
        super().__init__()
        self.builders, self.operations = builders, list[Operation]()
        self.constants: dict[str, Tensor] = {}
        self._names: Any = WeakIdKeyDictionary()
        self._known: dict[Any, str] = {}

    def named(self, tensor: Tensor, name: str) -> Tensor:
        """Return `tensor`, an input of this name from now on."""
        self._names[tensor] = name
        return tensor

    def knows(self, value: Any) -> bool:
        """Return whether a value came from inputs."""
        return isinstance(value, Tensor) and value in self._names

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Return what the call returns, written down where it depends on inputs."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        parts = [
            part for arg in args for part in (arg if isinstance(arg, list | tuple) else (arg,))
        ]
        if not any(self.knows(part) for part in parts):
            return result
        name = getattr(func, "__name__", str(func)).strip("_")
        builder = self.builders.get(name)
        if builder is None:
            raise ExportError(f"torch's {name!r} has no operation of ONNX here")
        self._names[result] = builder(self, result, *args, **kwargs)
        return result

    def emit(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Write an operation down; return the name of its result."""
        output = f"{kind}_{len(self.operations)}"
        self.operations.append(Operation(kind, tuple(inputs), output, attributes))
        return output

    def name_of(self, value: Any, dtype: torch.dtype | None = None) -> str:
        """Return the name of a tensor, or of a number, as `dtype`."""
        if self.knows(value):
            name: str = self._names[value]
            if dtype is None or value.dtype == dtype:
                return name
            return self.emit("Cast", [name], to=TYPES[dtype])
        if not isinstance(value, Tensor):
            return self.constant(torch.tensor(value, dtype=dtype))
        return self.constant(value if dtype is None else value.to(dtype))

    def constant(self, value: Tensor) -> str:
        """Return the name of a constant; equal ones have one name."""
        small = value.numel() <= 64
        held = tuple(value.flatten().tolist()) if small else value.data_ptr()
        key = (held, tuple(value.shape), value.stride(), value.dtype)
        if key not in self._known:
            self._known[key] = f"constant_{len(self.constants)}"
            self.constants[self._known[key]] = value.detach()
        return self._known[key]

    def whole(self, *values: int) -> str:
        """Return the name of a constant of whole numbers, [len(values)]."""
        return self.constant(torch.tensor(values, dtype=torch.int64))
