"""Calls that are carried out while a network is traced: on places of entries, or on constants.

What moves entries is carried out on the numbers of the places that they come from; what depends on
parameters, fixed tensors and shapes alone is computed.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from spiking_resnet.capture.aten import FROM_SHAPES
from spiking_resnet.capture.calls import (
    BATCH,
    Call,
    Moved,
    Unsupported,
    Value,
    operation_of,
    unmoved,
)
from spiking_resnet.capture.reindex import BORDERS, MOVES


def is_move(call: torch.fx.Node) -> bool:
    """Whether a call hands on entries of its first argument, each unchanged."""
    if operation_of(call) != "pad":
        return operation_of(call) in MOVES
    if len(call.args) > 2 and call.args[2] in BORDERS:
        return True
    return _pads_for_maximum(call)


def _pads_for_maximum(call: torch.fx.Node) -> bool:
    """Whether -inf is put around maps of which only maxima are taken: copies of the border do too.

    A window that reaches over the border contains the entry that is copied there.
    """
    infinite = len(call.args) > 3 and str(call.args[3]) == "-inf"
    pools = all(
        operation_of(user) == "max_pool2d" and not any(flat_list(list(user.args[3:5])))
        for user in call.users
    )
    return infinite and pools and len(call.users) > 0


def rearranged(
    call: torch.fx.Node, context: Call, arguments: list[Any], options: dict[str, Any]
) -> Any:
    """The first argument, moved (a list of Moved for a split)."""
    first, *rest = arguments
    if any(isinstance(a, Value | Moved) for a in flat_list([*rest, *options.values()])):
        raise Unsupported(f"{context.operation} by numbers that depend on the image; fix them")
    before = unmoved(first, context) if isinstance(first, Value) else first
    numbers = before.places.contiguous()  # `contiguous` was passed over, views rely on it
    if context.operation == "pad":
        mode = rest[1] if rest[1] in BORDERS else "replicate"
        places: Any = torch.nn.functional.pad(numbers, rest[0], mode)
    else:
        rest = [a.cpu() if isinstance(a, Tensor) else a for a in rest]
        places = call.target(numbers, *rest, **options)  # type: ignore[operator]
    if isinstance(places, Tensor):
        return replace(before, places=places, call=context)
    parts = [replace(context, name=f"{context.name}.{i}") for i in range(len(places))]
    return [replace(before, places=p, call=part) for p, part in zip(places, parts, strict=True)]


def stacked(value: Value, call: Call, arguments: list[Any], options: dict[str, Any]) -> Moved:
    """What stands one after the other along the channels of `value`, on an axis of its own."""
    axis = options.get("dim", arguments[1] if len(arguments) > 1 else 0)
    number = len(arguments[0])
    places = unmoved(value, call).places.unflatten(1, (number, -1))
    if (missing := arguments[0][0].missing) is not None:
        places = places.squeeze(missing + 2)
    return Moved(value, places.movedim(1, axis), call)


def as_features(moved: Moved) -> Moved:
    """A value with one axis of more than one entry, such as [N, K, 1, 1] or [N], as [N, K]."""
    first, *rest = moved.places.shape or (0,)
    if first != BATCH or moved.places.numel() != BATCH * max(rest, default=1):
        return moved
    places = moved.places.reshape(BATCH, -1)
    return replace(moved, places=places, call=replace(moved.call, shape=places.shape[1:]))


def constant(
    call: torch.fx.Node, context: Call, arguments: list[Any], options: dict[str, Any]
) -> Any:
    """What a call computes of parameters, fixed tensors and the shapes of values alone."""
    if context.operation in FROM_SHAPES:
        new = context.operation.startswith("new_")  # the arguments say the shape
        shape = () if new else tuple(call.meta["val"].shape)
        arguments = [torch.zeros(shape, dtype=torch.float32), *arguments[1:]]
        if context.operation not in ("fill", "zero"):
            options = {**options, "device": "cpu"}
    made = call.target(*arguments, **options)  # type: ignore[operator]
    return torch.zeros_like(made) if "empty" in context.operation else made


def flat_list(arguments: Sequence[Any]) -> list[Any]:
    """Arguments one after the other, those within lists included."""
    return [
        entry
        for argument in arguments
        for entry in (flat_list(argument) if isinstance(argument, list) else [argument])
    ]
