"""The base class of conversion methods: frozen options, and the passes they stand for."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
    have are an InputError, a ValueError, that names it. published: sets of its options that go by
    names of their own wherever a method is named.
    """

    name: ClassVar[str]
    published: ClassVar[Mapping[str, Mapping[str, Any]]] = {}

    def __post_init__(self) -> None:
        for name, option in options_of(type(self)).items():
            object.__setattr__(self, name, option.check(getattr(self, name)))

    @abstractmethod
    def apply(self, traced: Graph, calibration: Calibration | Measured) -> Graph:
        """Return the spiking network of a traced ANN."""

    def describe(self) -> dict[str, Any]:
        """Return the method's name and options, JSON-able."""
        return {"method": self.name, "options": asdict(self)}
