"""What the fields of every kind of node may hold: one table. A neuron's stand in its own file.

Tensors stand in `graph.values`, what follows from other nodes in `graph.shapes`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_type_hints

from spiking_resnet.graph.nodes import (
    Add,
    Affine,
    AvgPool,
    Concat,
    Conv2d,
    Fire,
    Flatten,
    Input,
    Linear,
    MaxPool,
    Node,
    Output,
    Pad,
    ReLU,
    Round,
    Select,
    Slice,
)
from spiking_resnet.neurons import NEURONS, Neuron
from spiking_resnet.neurons.base import MOST_LEVELS
from spiking_resnet.rules import (
    Rule,
    number,
    one_of,
    optional,
    pair,
    positive,
    several,
    shown,
    text,
    truth,
    whole,
)

MOST_BITS = 24  # of a grid: float32 holds no more behind the point, of numbers below 1
MOST_PADDING = 2**10  # of windows; and
MOST_AROUND = 2**15  # of a Pad: a few bytes of a file must not ask for gigabytes of zeros
RANKS = (1, 3)  # axes of a value: [C], [C, H], [C, H, W]

RESERVED = (":emitted", ":left out")  # ends of names that `interpret` keeps memory by

_GRID = optional(whole(0, MOST_BITS))
_COMMON = {
    "name": Rule(
        f"a text that does not end in {' or '.join(RESERVED)}",
        lambda value: isinstance(value, str) and not value.endswith(RESERVED),
    ),
    "inputs": several(text()),
    "shape": several(whole(1), *RANKS),
    "source": text(),
}
_WINDOW = {"stride": pair(whole(1)), "padding": pair(whole(0, MOST_PADDING))}
_SUMMED = {"grid": _GRID, "step_bound": number(0)}


def _words(kind: type, field: str) -> Rule:
    """One of the words that a field's type names."""
    return one_of(get_args(get_type_hints(kind)[field]))


NODES: dict[type[Node], dict[str, Rule]] = {
    Input: {
        "encoding": _words(Input, "encoding"),
        "scale": positive(),
        "amplitude": positive(),
        "seed": whole(-(2**63), 2**63 - 1),
        "grid": optional(whole(-MOST_BITS, MOST_BITS)),  # coarser than 1 where pixels are huge
        "limit": number(0),
    },
    Conv2d: {**_WINDOW, "dilation": pair(whole(1)), "groups": whole(1), "grid": _GRID},
    Linear: {"grid": _GRID},
    Affine: {"grid": _GRID},
    Round: {"bits": whole(0, MOST_BITS)},
    ReLU: {"ceiling": optional(number(0)), "levels": optional(whole(1, MOST_LEVELS))},
    Fire: {
        "neuron": Rule("a population of spiking neurons", lambda value: isinstance(value, Neuron)),
        **_SUMMED,
    },
    Add: {},
    Concat: {},
    Pad: {"padding": several(pair(whole(0, MOST_AROUND)), *RANKS)},
    Slice: {"axis": whole(), "start": whole(), "stop": whole(), "step": whole(1)},
    Select: {"axis": whole(), "index": several(whole(), 1)},
    AvgPool: {
        "kernel": pair(whole(1)),
        **_WINDOW,
        "divisor": Rule("a positive finite number", lambda v: number().holds(v) and v > 0),
    },
    MaxPool: {
        "kernel": pair(whole(1)),
        **_WINDOW,
        "dilation": pair(whole(1)),
        "ceil_mode": truth(),
        "rule": _words(MaxPool, "rule"),
        **_SUMMED,
    },
    Flatten: {},
    Output: {
        "readout": _words(Output, "readout"),
        "scale": positive(),
        "delay": whole(),
        **_SUMMED,
    },
}


def problems(node: Node) -> Iterator[str]:
    """What is wrong with the fields of a node and its neuron, tensors aside."""
    kind = type(node)
    if kind not in NODES:
        yield f"there is no kind of node {kind.__name__!r}"
        return
    yield from _broken({**_COMMON, **NODES[kind]}, node, "")
    if isinstance(node, Fire):
        neuron = type(node.neuron)
        if neuron in NEURONS.values():
            yield from _broken(neuron.RULES, node.neuron, "neuron.")
        elif issubclass(neuron, Neuron):
            yield f"there is no kind of neuron {shown(neuron.__name__)}"


def _broken(rules: Mapping[str, Rule], holder: Any, prefix: str) -> Iterator[str]:
    for field, rule in rules.items():
        if problem := rule.problem(f"{prefix}{field}", getattr(holder, field)):
            yield problem
