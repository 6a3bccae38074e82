"""What the network of an ONNX file says itself, as onnx's reference evaluator finds it."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spiking_resnet.capture.onnx.evaluator import computed
from spiking_resnet.capture.onnx.file import Layout, OnnxFile
from spiking_resnet.capture.onnx.inference import Facts
from spiking_resnet.capture.onnx.package import OnnxError, first_line

Array = np.ndarray[Any, Any]


def reference_logits(file: OnnxFile, images: Tensor, layout: Layout) -> Tensor:
    """The logits [N, K] of images [N, C, H, W]. Slow: for comparing, on a few images.

    layout: in which the file takes its images. Raises OnnxError for a file it cannot run.
    """
    pixels = images.permute(0, 2, 3, 1) if layout == "NHWC" else images
    found = []
    for part in pixels.split(file.batch or len(pixels)):
        fill = (file.batch or len(part)) - len(part)
        whole = torch.cat([part, part[-1:].expand(fill, *part.shape[1:])]).contiguous()
        logits = _run(file, whole.numpy())
        if logits.ndim < 1 or len(logits) != len(whole):
            raise OnnxError(
                f"{file.path} makes logits of shape {logits.shape} of {len(whole)} images, not one "
                "row for each: export it with a free batch size"
            )
        found.append(torch.from_numpy(np.array(logits)).flatten(1)[: len(part)])
    return torch.cat(found).float()


def _run(file: OnnxFile, images: Array) -> Array:
    """The file's logits; every other value is let go when nothing reads it any more."""
    facts = file.facts_of(images.shape)
    values: dict[str, Array] = {**facts.constants, file.input: images}
    left = Counter(name for node in file.nodes for name in node.input)
    left[file.logits] += 1
    for node in file.nodes:
        if not all(name in facts.constants for name in node.output if name):
            values |= _computed(file, facts, node, values)
        left.subtract(node.input)
        for name in (*node.input, *node.output):
            if left[name] <= 0:
                values.pop(name, None)
    return values[file.logits]


def _computed(
    file: OnnxFile, facts: Facts, node: Any, values: Mapping[str, Array]
) -> dict[str, Array]:
    """What one node makes; OnnxError where that cannot be computed."""
    first = node.output[0]
    reason = facts.problems.get(first, "" if first in facts.shapes else "of unknown size")
    try:
        if not reason:
            return computed(node, values, file.opsets)
    except Exception as error:  # whatever an operator of onnx's raises
        reason = f"{type(error).__name__}: {first_line(error)}"
    raise OnnxError(
        f"{file.path}: onnx's reference evaluator cannot run {node.name or first!r} "
        f"({node.op_type}; {reason}), so that nothing can be compared: export it with opset 13 or "
        "later and a free batch size"
    )
