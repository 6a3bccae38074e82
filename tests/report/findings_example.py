"""What a report tells of a small network, for tests."""

from dataclasses import replace
from functools import cache

import torch
from test_block import PNG
from test_shown_records import COMPARED

from spiking_resnet import diagnose, evaluate
from spiking_resnet.costs.models import known, model
from spiking_resnet.evaluation.findings import energy_at, findings
from spiking_resnet.evaluation.observe import observe
from spiking_resnet.report.findings import page
from spiking_resnet.report.page import render
from zoo import images, spiking


@cache
def example():
    """The findings of a network with one residual block."""
    graph, batch = spiking("identity"), images("identity", 8)
    labels = torch.arange(8) % 5
    loader = [(batch, labels)]
    return findings(
        graph, evaluate(graph, loader, [4, 8]), diagnose(graph, loader, 8), "",
        observe(graph, batch, labels, 8, samples=2), COMPARED,
        energy_at(graph, loader, [4, 8], [model(each) for each in known()]),
        [f"name {k}" for k in range(5)],
    )  # fmt: skip


def written(found, name="net", told=()):
    """The page of what was found."""
    return render(page(found, name, name, told, lambda _: PNG, found.to_json())).decode()


def renamed(found, text):
    """The findings of a network whose layers and classes have a text before their names."""
    layers = tuple(
        replace(
            each,
            name=f"{text}{each.name}",
            by=(text,),
            shortcuts=tuple(f"{text}{name}" for name in each.shortcuts),
        )
        for each in found.layers
    )
    return replace(found, layers=layers, class_names=(text,) * 5, undiagnosed=text)
