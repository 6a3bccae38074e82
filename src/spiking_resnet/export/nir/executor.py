"""A reader of NIR of its own: a few lines of torch over the nodes, under any rule of stepping.

It shares nothing with the package's networks and engines but the check of the file (`file.sheet`),
so that a file is judged by what stands in it. NIR's neurons live in continuous time; a `Rule` says
how a reader steps them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from math import prod
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from spiking_resnet.export.nir.file import NirError, Sheet, kind
from spiking_resnet.neurons import Reset
from spiking_resnet.records import Trains

BATCH = 4  # images at once


@dataclass(frozen=True, kw_only=True)
class Rule:
    """How a reader steps the populations of a file.

    reset: of all; "" for what each population's metadata says. strict: whether neurons fire above
    their threshold only. starts: whether they start at the potential in the metadata. rounds:
    whether sums of the image are rounded as the metadata says. several: whether a neuron fires as
    many spikes in a step as its potential holds thresholds. clamped: whether no potential falls
    below -threshold.
    """

    reset: Reset | Literal[""] = ""
    strict: bool = False
    starts: bool = True
    rounds: bool = True
    several: bool = False
    clamped: bool = False


WORDS: Mapping[str, Mapping[Any, str]] = {
    "reset": {"zero": "resets to zero", "subtract": "resets by subtraction"},
    "strict": {True: "fires only above the threshold", False: "fires at the threshold"},
    "starts": {False: "starts at 0", True: "starts at the potential in the metadata"},
    "rounds": {False: "leaves sums of the image unrounded", True: "rounds sums of the image"},
    "several": {True: "several spikes a step", False: "one spike a step"},
    "clamped": {True: "clamps potentials at -threshold", False: "no clamp"},
}


def own_rule(sheet: Sheet) -> Rule:
    """Return the rule that a file's metadata says; for files without any, NIR's own."""
    nodes = sheet.nodes.values()
    resets = {_told(node, "reset", "zero") for node in nodes if kind(node) == "IF"}
    return Rule(
        reset=resets.pop() if len(resets) == 1 else "",
        strict=sheet.facts.get("fires", "above threshold") == "above threshold",
        starts=any(_told(node, "initial_potential", None) is not None for node in nodes),
        rounds=any(_told(node, "rounded_to_bits", None) is not None for node in nodes),
    )


def by_nir_alone(reset: Reset) -> Rule:
    """Return the rule of a reader that knows no metadata: NIR fires above the threshold."""
    return Rule(reset=reset, strict=True, starts=False, rounds=False)


def differences(rule: Rule, other: Rule) -> tuple[str, ...]:
    """Return the names of the fields in which two rules differ."""
    names = (field.name for field in fields(rule))
    return tuple(name for name in names if getattr(rule, name) != getattr(other, name))


def words(rule: Rule, names: tuple[str, ...]) -> str:
    """Return what a rule says of some of its fields."""
    return ", ".join(WORDS[name][getattr(rule, name)] for name in names)


def changed(rule: Rule, other: Rule, name: str) -> Rule:
    """Return `rule` with one field of another."""
    taken: Any = {name: getattr(other, name)}
    return replace(rule, **taken)


def execute(sheet: Sheet, images: Tensor, steps: int, rule: Rule) -> tuple[Trains, Tensor]:
    """Return the spikes of every population, and what reaches the output [T, N, K].

    images: [N, C, H, W] as the network is presented them.
    """
    parts = [_Batch(sheet, rule).run(each, steps) for each in images.split(BATCH)]
    trains = {name: torch.cat([part[0][name] for part in parts], 1) for name in parts[0][0]}
    shapes = {name: np.shape(sheet.nodes[name].v_threshold) for name in trains}
    return packed(trains, shapes), torch.cat([part[1] for part in parts], 1)


def packed(trains: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Trains:
    """Return trains [T, N, neurons], bits where neurons fire 0 or 1."""
    bits: dict[str, Tensor] = {}
    for name, train in trains.items():
        binary = train.numel() == 0 or (int(train.max()) <= 1 and int(train.min()) >= 0)
        whole = train.to(torch.uint8).numpy() if binary else None
        bits[name] = (
            train.to(torch.int32)
            if whole is None
            else torch.from_numpy(np.packbits(whole, axis=2, bitorder="little"))
        )
    return Trains(bits, {name: tuple(int(n) for n in shape) for name, shape in shapes.items()})


class _Batch:
    """Some images on their way through the nodes."""

    def __init__(self, sheet: Sheet, rule: Rule) -> None:
        self.sheet, self.rule = sheet, rule
        self.potentials: dict[str, Tensor] = {}

    def run(self, images: Tensor, steps: int) -> tuple[dict[str, Tensor], Tensor]:
        """Return trains [T, N, neurons] by name, and outputs [T, N, K]."""
        trains: dict[str, list[Tensor]] = {}
        outputs: list[Tensor] = []
        for _ in range(steps):
            values: dict[str, Tensor] = {}
            for name, node in self.sheet.nodes.items():
                arriving = [values[source] for source in self.sheet.reads[name]]
                current = sum(arriving[1:], arriving[0]) if arriving else images
                values[name] = self._value(name, node, current)
                if kind(node) == "IF":
                    trains.setdefault(name, []).append(values[name].flatten(1).to(torch.int32))
            outputs.append(values[self.sheet.output].flatten(1))
        return {name: torch.stack(train) for name, train in trains.items()}, torch.stack(outputs)

    def _value(self, name: str, node: Any, x: Tensor) -> Tensor:
        if kind(node) == "IF":
            return self._fired(name, node, x)
        found = _linear(name, node, x)
        bits = _told(node, "rounded_to_bits", None)
        if bits is None or not self.rule.rounds:
            return found
        scale = 2.0 ** int(bits)
        return ((found.double() * scale).round() / scale).float()

    def _fired(self, name: str, node: Any, current: Tensor) -> Tensor:
        """Return the spikes of a population whose r is 1, and keep its potentials."""
        rule, level = self.rule, torch.from_numpy(np.array(node.v_threshold)).float()
        taken = torch.from_numpy(np.array(_told(node, "threshold", node.v_threshold))).float()
        before = self.potentials.get(name)
        if before is None:
            begin = _told(node, "initial_potential", 0.0) if rule.starts else 0.0
            before = torch.zeros_like(current) + torch.as_tensor(begin, dtype=torch.float32)
        charged = before + current.reshape(-1, *level.shape)
        fired = (charged > level if rule.strict else charged >= level).to(charged.dtype)
        if rule.several:
            fired = torch.floor(charged / level).clamp(min=0)
        reset = rule.reset or _told(node, "reset", "zero")
        after = charged * (1 - fired) if reset == "zero" else charged - taken * fired
        self.potentials[name] = torch.maximum(after, -level) if rule.clamped else after
        return fired


def _linear(name: str, node: Any, x: Tensor) -> Tensor:
    """Return the value of a node without state, in the numbers of its weights."""
    what = kind(node)
    if what in ("Input", "Output"):
        return x
    if what == "Flatten":
        return x.flatten(1)
    if what == "Conv2d":
        weight, bias = (torch.from_numpy(np.array(each)) for each in (node.weight, node.bias))
        padding = node.padding if isinstance(node.padding, str) else _numbers(node.padding)
        stride, dilation = _numbers(node.stride), _numbers(node.dilation)
        x = x.to(weight.dtype)
        return F.conv2d(x, weight, bias, stride, padding, dilation, int(node.groups))
    if what in ("Affine", "Linear"):
        weight = torch.from_numpy(np.array(node.weight))
        added = getattr(node, "bias", None)
        y = F.linear(x.to(weight.dtype), weight)
        return y if added is None else y + torch.from_numpy(np.array(added))
    if what == "Scale":
        return x * torch.from_numpy(np.array(node.scale)).to(x.dtype)
    if what in ("SumPool2d", "AvgPool2d"):
        kernel, stride, padding = map(_numbers, (node.kernel_size, node.stride, node.padding))
        divisor = 1 if what == "SumPool2d" else prod(kernel)
        return F.avg_pool2d(x, kernel, stride, padding, divisor_override=1) / divisor
    raise NirError(f"{name!r} is a {what}, which is not executed")


def _numbers(value: Any) -> list[int]:
    found = [int(each) for each in np.ravel(value)]
    return found if len(found) > 1 else found * 2


def _told(node: Any, name: str, default: Any) -> Any:
    data = getattr(node, "metadata", None)
    return data.get(name, default) if isinstance(data, dict) else default
