"""Calls that change a value in place which other calls read under another name (views)."""

import operator
from collections.abc import Iterator
from typing import Any

import torch

from spiking_resnet.capture.calls import operation_of

_THEMSELVES = ("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")


def shared_writes(graph: torch.fx.Graph) -> list[torch.fx.Node]:
    """The calls, in order, after which something reads what they changed by an older name.

    Older names are the value that a view was taken of, its other views, and the value itself.
    """
    order = {call: place for place, call in enumerate(graph.nodes)}
    owners: dict[torch.fx.Node, torch.fx.Node] = {}  # whose memory a value is, where not its own
    found = []
    for call in graph.nodes:
        for changed in _changed(call):
            owner = owners.get(changed, changed)
            names = [n for n in order if order[n] < order[call] and owners.get(n, n) is owner]
            if any(order[user] > order[call] for name in names for user in name.users):
                found.append(call)
        if (viewed := _viewed(call)) is not None:
            owners[call] = owners.get(viewed, viewed)
    return found


def _changed(call: torch.fx.Node) -> Iterator[torch.fx.Node]:
    """The arguments that a call writes to."""
    for argument, value in _arguments(call):
        writes = argument.alias_info is not None and argument.alias_info.is_write
        if writes and isinstance(value, torch.fx.Node):
            yield value


def _viewed(call: torch.fx.Node) -> torch.fx.Node | None:
    """The argument whose memory a call's value may share; None if it has its own."""
    first = call.args[0] if call.args else None
    if call.target is operator.getitem or operation_of(call) in _THEMSELVES:
        return first if isinstance(first, torch.fx.Node) else None
    for argument, value in _arguments(call):
        if argument.alias_info is not None and isinstance(value, torch.fx.Node):
            return value
    return None


def _arguments(call: torch.fx.Node) -> Iterator[tuple[Any, Any]]:
    """(what the schema says of it, value) of a call's arguments."""
    if isinstance(call.target, torch._ops.OpOverload):
        schema = call.target._schema.arguments
        for place, argument in enumerate(schema):
            given = call.args[place] if place < len(call.args) else call.kwargs.get(argument.name)
            yield argument, given
