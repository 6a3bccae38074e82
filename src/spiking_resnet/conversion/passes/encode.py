"""Encodings of the image: a constant current (the paper), or random spikes."""

from dataclasses import replace

from spiking_resnet.graph import Graph, Input, Node


def with_input_limit(graph: Graph, limit: float) -> Graph:
    """Return `graph` noting that calibration pixels were at most `limit` in absolute value."""
    return graph.with_nodes(
        replace(node, limit=limit) if isinstance(node, Input) else node for node in graph.nodes
    )


def poisson_input(graph: Graph, scale: float, seed: int) -> Graph:
    """Return `graph` whose image is Poisson (rate) coded, in spikes of random timing.

    At every step a pixel x spikes with probability min(|x| / scale, 1), with its own sign and the
    amplitude `scale`, so that its mean is x. The draws depend on (seed, step, pixel) alone: a
    result does not change with the other images of a batch.
    """

    def coded(node: Node) -> Node:
        if not isinstance(node, Input):
            return node
        return replace(node, encoding="poisson", scale=scale, amplitude=scale, seed=seed)

    return graph.with_nodes(coded(node) for node in graph.nodes)
