"""Small edits of saved networks, by generation; run as a program: loads and simulates such files.

NETWORKS: by name, a function that makes one. `edits` yields what can be changed of a file: every
field of one node of every kind, out of range; `write` makes the file, without a checksum, as an
older version would have left it.
"""

import copy
import json
import resource
import signal
import sys

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

import spiking_resnet as sr
from spiking_resnet import store
from spiking_resnet.conversion.passes.gate import gate_neurons
from spiking_resnet.engines.simulate import ENGINES
from spiking_resnet.graph import Fire, interpret

STEPS, SHAPE = 8, (2, 6, 6)
MEMORY = 6 * 2**30  # bytes that a child may map; torch alone takes two thirds
LONGEST = 60  # seconds for one file, on a machine that does much else


class Every(nn.Module):
    """Nodes of as many kinds as there are."""

    def __init__(self, pool=True):
        super().__init__()
        self.a, self.b = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 8, 3, 2, 1)
        self.c = nn.Conv2d(16, 4, 1)
        self.pool = nn.MaxPool2d(2) if pool else nn.AvgPool2d(2)
        self.end = nn.Linear(4, 3)

    def forward(self, x):
        x = torch.relu(self.a(x))
        short = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2), "constant", 0)
        y = torch.relu(self.b(x) + short)
        y = torch.cat([y, self.pool(x), self.pool(x)[:, [1, 0, 3, 2]]], 1)
        return self.end(torch.relu(self.c(y)).mean((2, 3)))


def _made(method, pool=True):
    torch.manual_seed(0)
    return sr.convert(Every(pool).eval(), torch.randn(20, *SHAPE), method)


NETWORKS = {
    "plain": lambda: _made(sr.methods.hu2021(steps=STEPS)),
    "zero": lambda: _made(sr.methods.hu2021(steps=STEPS, reset="zero", readout="membrane")),
    "burst": lambda: _made(sr.methods.hu2021(steps=STEPS, levels=3, signed=True)),
    "poisson": lambda: _made(sr.methods.hu2021(steps=STEPS, input_coding="poisson")),
    "off-grid": lambda: _made(sr.methods.hu2021(steps=STEPS, grid=None)),
    "differential": lambda: _made(sr.methods.differential(steps=STEPS, levels=2)),
    "dcgs": lambda: _made(sr.methods.dcgs(steps=STEPS, levels=2), pool=False),
    "serial": lambda: _made(sr.methods.calibrated(steps=STEPS, waits=True)),
    "gated": lambda: gate_neurons(
        _made(sr.methods.hu2021(steps=STEPS, readout="membrane"), pool=False), "srp", 2
    ),
}

NUMBERS = (-1, 0, 2, 2**31, 2**62, 1e300, -1.5, 0.5, float("nan"), float("inf"))
OTHERS = (True, False, "strange", "", None, [], {}, [0, 0], [-1, -1], [2**62, 2], [1, 1, 1], [None])
SHAPES = ([], [0], [-1, 2, 2], [2**40], [4096, 2, 2], [2**20, 2**20, 2], [1.5, 2, 2])
DELETED = object()


def edits(description, tensors):
    """(what is changed, a function of the description and the tensors that changes it)."""
    for part in ("snn", "ann"):
        seen = set()
        for i, node in enumerate(description[part]["nodes"]):
            kind = (node["kind"], node.get("neuron", {}).get("kind"))
            if kind in seen:
                continue
            seen.add(kind)
            yield from _of_node(part, i, node)
            yield from _of_tensors(part, node, tensors)
        for value in (None, [], 5, "notes", {"thresholds": [1]}, {"options": None}, _deep(500)):
            yield f"{part} notes {str(value)[:20]}", _set((part, "notes"), value)


def _deep(levels):
    value = []
    for _ in range(levels):
        value = {"more": value}
    return value


def _of_node(part, i, node):
    where = (part, "nodes", i)
    for field, old in node.items():
        if field == "neuron":
            for name, inner in old.items():
                for value in _others(name, inner):
                    yield (
                        f"{node['name']} neuron.{name}: {value!r}",
                        _set((*where, field, name), value),
                    )
            continue
        for value in _others(field, old):
            said = "deleted" if value is DELETED else repr(value)
            yield (
                f"{part} {node['name']} ({node['kind']}) {field}: {said}",
                _set((*where, field), value),
            )
    yield f"{node['name']}: another field", _set((*where, "colour"), "red")


def _others(field, old):
    special = SHAPES if field == "shape" else (["nobody"], [5]) if field == "inputs" else ()
    for value in (*NUMBERS, *OTHERS, *special, DELETED):
        if value is DELETED or repr(value) != repr(old):
            yield value


def _set(path, value):
    def change(description, tensors):
        holder = description
        for step in path[:-1]:
            holder = holder[step]
        if value is DELETED:
            holder.pop(path[-1], None)
        else:
            holder[path[-1]] = value

    return change


def _of_tensors(part, node, tensors):
    for key, old in tensors.items():
        if not key.startswith(f"{part}/{node['name']}/") or key.count("/") != 2:
            continue
        flat = old.flatten()
        other = {
            "int8": old.to(torch.int8), "half": old.half(), "double": old.double(),
            "rank": old[None], "flat": flat.repeat(2), "huge": torch.full_like(old, 1e30),
            "nan": torch.full_like(old, float("nan")), "zero": torch.zeros_like(old),
            "negative": -old - 1, "off": old + 2.0**-21, "large": old * 2.0**16,
            "tiny": torch.full_like(old, 1e-40), "none": flat[:0],
        }  # fmt: skip
        for name, value in other.items():
            yield f"{key} {name}", lambda _, found, key=key, value=value: found.update({key: value})
        yield f"{key} deleted", lambda _, found, key=key: found.pop(key)
        yield (
            f"{key} twice",
            lambda _, found, key=key: found.update({f"{key}2": found[key].clone()}),
        )


def parts_of(path):
    """(description, tensors) of a saved network; the description has no checksum."""
    with safe_open(path, framework="pt") as file:
        description = json.loads(file.metadata()[store.KEY])
    del description["checksum"]
    return description, load_file(path)


def write(path, description, tensors, change):
    """The file with one change."""
    description, tensors = copy.deepcopy(description), dict(tensors)
    change(description, tensors)
    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
    save_file(tensors, path, metadata={store.KEY: json.dumps(description)})


def outcome(path):
    """What becomes of a file: "refused", "runs", or what is wrong."""
    torch.manual_seed(1)
    images = torch.randn(2, *SHAPE)
    try:
        graph = sr.load(path)
    except sr.StoreError:
        return "refused"
    try:
        if graph.ann is not None:
            interpret.logits(graph.ann, images)
        runs = {}
        for engine, how in ENGINES.items():
            if not how.unsupported(graph):
                runs[engine] = sr.simulate(
                    graph, images, STEPS, record=(3,), engine=engine, neurons=list(graph.neurons)
                )
    except ValueError as error:
        own = type(error).__module__.startswith("spiking_resnet")
        return "refused" if own else f"raw {type(error).__name__}: {error}"
    if all(run.exact for run in runs.values()):
        first = runs["interpreter"]
        for engine, run in runs.items():
            same = torch.equal(run.logits, first.logits)
            for node in graph.of(Fire):
                one, other = (each.neuron_spikes[node.name] for each in (run, first))
                same = same and torch.equal(one, other)
            if not same:
                return f"{engine} differs, and says it is exact"
    elif any(run.exact for run in runs.values()):
        return f"exact in some engines only: { ({n: r.exact for n, r in runs.items()}) }"
    return "runs"


def main():
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    torch.set_num_threads(1)
    for line in sys.stdin:
        signal.alarm(LONGEST)
        try:
            found = outcome(line.strip())
        except Exception as error:
            found = f"raw {type(error).__name__}: {str(error)[:200]}"
        print(found.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main()
