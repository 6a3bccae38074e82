"""The base class of conversion methods: frozen options, and the passes they stand for."""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from spiking_resnet.conversion.calibration import Calibration
from spiking_resnet.conversion.methods.option import options_of
from spiking_resnet.conversion.statistics import Measured
from spiking_resnet.graph import Graph
from spiking_resnet.shown import Short


@dataclass(frozen=True, kw_only=True)
class Method(Short, ABC):
    """A conversion method: a frozen set of options, and the passes they stand for.

    A subclass is a frozen dataclass whose fields are made by `option`. Values that an option cannot
    have are an InputError, a ValueError, that names it. trained: whether it is for networks that
    were trained with quantised activations only.
    """

    name: ClassVar[str]
    trained: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for name, option in options_of(type(self)).items():
            object.__setattr__(self, name, option.check(getattr(self, name)))

    @property
    def per_steps(self) -> bool:
        """Whether its networks are for one number of time steps, and so made again for each."""
        return True

    @property
    def graded(self) -> bool:
        """Whether a spike may be negative, or of several sizes."""
        return bool(getattr(self, "signed", False)) or getattr(self, "levels", 1) > 1

    @abstractmethod
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN."""

    def describe(self) -> dict[str, Any]:
        """Return the method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}
