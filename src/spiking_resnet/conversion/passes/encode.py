"""How the image enters: as a constant current (the paper), or as random spikes."""

from dataclasses import replace

from spiking_resnet.graph import Graph, Input, Node


def with_input_limit(graph: Graph, limit: float) -> Graph:
    """`graph` knowing that pixels were at most `limit` in absolute value in calibration."""
    return graph.with_nodes(
        replace(node, limit=limit) if isinstance(node, Input) else node for node in graph.nodes
    )


def poisson_input(graph: Graph, scale: float, seed: int) -> Graph:
    """`graph` whose image is coded in spikes of random timing (rate coding; Poisson coding).

    At every step a pixel x spikes with probability min(|x| / scale, 1), with its own sign and the
    height `scale`, so that its mean is x. The draws depend on (seed, step, pixel) alone: a result
    does not change with the other images of a batch.
    """

    def coded(node: Node) -> Node:
        if not isinstance(node, Input):
            return node
        return replace(node, encoding="poisson", scale=scale, amplitude=scale, seed=seed)

    return graph.with_nodes(coded(node) for node in graph.nodes)
