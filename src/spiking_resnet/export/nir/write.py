"""Writing NIR: a network, made ready for a reader, and the file that says what it is."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.engines.simulate import simulate
from spiking_resnet.export.format import Asked, Caution, ExportError, Format, needed
from spiking_resnet.export.nir import golden
from spiking_resnet.export.nir.file import check_steps
from spiking_resnet.export.nir.lowering import lowered, with_summing_convolutions
from spiking_resnet.export.nir.merging import merged, with_maps, without_dead_ends
from spiking_resnet.export.nir.nodes import drawn, late, refuse
from spiking_resnet.export.nir.prepare import with_constant_start, with_exact_image, with_reset
from spiking_resnet.export.nir.profiles import Profile, profile_named
from spiking_resnet.export.nir.relays import with_relays
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Fire, Graph, Input
from spiking_resnet.graph.notes import unwritable
from spiking_resnet.graph.plain import describe
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

FORMAT_VERSION = 1
_RESETS = (
    "its neurons reset to zero now, and every layer loses what is above the threshold. Convert it "
    "with reset='zero' and a compensation above 1 (the shipped ResNet-20: --reset zero "
    "--compensation 1.45), or export for a simulator that resets by subtraction (profile sinabs)"
)
_LONGER = "export it for more time steps (--steps), or with profile 'plain', which changes nothing"
GOLDEN_STEPS = 64  # time steps of golden spikes where nobody says how many


@dataclass(frozen=True, eq=False)
class Exported:
    """A network ready to be written.

    graph: the one that the file holds, spike for spike. nir: the same as an NIRGraph. told: what
    was changed for the reader, in words.
    """

    graph: Graph
    nir: Any
    told: tuple[str, ...]


@arguments.checked(
    graph=arguments.network, path=arguments.path, steps=arguments.whole, profile=arguments.text,
    images=arguments.image_batch,
)  # fmt: skip
@undisturbed()
def to_nir(
    graph: Graph,
    path: str | Path | None = None,
    *,
    steps: int | None = None,
    profile: str = "plain",
    images: Tensor | None = None,
) -> Any:
    """A spiking network as an `nir.NIRGraph`, and as the file `path` where one is given.

    profile: who will read it: "plain" (readers of its metadata), "norse", "spikingjelly" or
    "sinabs". For the latter three the network is changed so that the graph alone says what it
    computes (docs/interop.md); what was changed stands in the metadata, as "changes". steps: time
    steps that it will run for; needed for these three where the network does not say. images:
    float [N, C, H, W], normalised, whose spikes are written into the file, for `nir.read_data`.
    Raises ExportError for what NIR cannot express, with the node's name; InputError where the
    package nir is missing, or nobody says how many steps, or fewer than 1; OSError, leaving no file
    behind.

    >>> written = sr.to_nir(snn, "snn.nir", profile="spikingjelly", steps=64)
    """
    if images is not None and path is None:
        raise InputError("images are given and no path: golden spikes stand in a file")
    check_steps(steps)
    made = exported(graph, profile_named(profile), steps)
    if path is not None:
        write(made, Path(path), profile_named(profile), steps, images)
    return made.nir


def exported(graph: Graph, profile: Profile, steps: int | None) -> Exported:
    """Return a network ready for a reader; raises as `to_nir`."""
    needed("nir", "nir")
    if not graph.of(Fire):
        raise InputError("the network has no spiking neurons: convert it first")
    refuse(graph)
    graph = without_dead_ends(graph)
    steps = steps or _steps(graph)
    told: list[str] = []
    if profile.is_client:
        graph, told = _made_ready(graph, profile, steps)
    else:
        graph = lowered(graph, gains=False)
    nodes, edges = drawn(graph, profile)
    if profile.depth_first:
        _check_order(graph, profile, nodes, edges)
    facts = _facts(graph, profile, steps, told)
    nir = needed("nir", "nir")
    return Exported(graph, nir.NIRGraph(nodes=nodes, edges=edges, metadata=facts), tuple(told))


def _made_ready(graph: Graph, profile: Profile, steps: int | None) -> tuple[Graph, list[str]]:
    if steps is None:
        raise InputError(
            f"profile {profile.name!r} needs the time steps that the network will run for, and it "
            "does not say: give steps (--steps)"
        )
    graph, image = with_exact_image(with_summing_convolutions(graph), steps)
    graph, start = with_constant_start(graph, steps)
    graph = merged(with_maps(lowered(graph, gains=True)))
    graph, relays = with_relays(graph) if profile.depth_first else (graph, "")
    graph, reset = with_reset(graph, profile)
    strict = f"thresholds are half a grid step lower: {profile.name} fires only above them"
    told = [image, start, reset, relays, strict if profile.strict else ""]
    return graph, [each for each in told if each]


def _check_order(
    graph: Graph, profile: Profile, nodes: dict[str, Any], edges: list[tuple[str, str]]
) -> None:
    first = next(iter(nodes))
    name = late(nodes, edges, first)
    if name is not None:
        raise ExportError(
            f"{name!r} adds up branches, and {profile.name} computes it before it has all of them: "
            "what it adds would be a step late or missing. Convert so that shortcuts have one "
            "scale (shared_scale='stage'), or choose another profile"
        )


def _steps(graph: Graph) -> int | None:
    """Return the steps that a network was made for, as its method was told."""
    told = graph.notes.get("options", {}).get("steps")
    return graph.made_for or (told if isinstance(told, int) else None)


def _facts(
    graph: Graph, profile: Profile, steps: int | None, told: Sequence[str]
) -> dict[str, Any]:
    """Return the metadata of the whole graph."""
    resets = sorted({node.neuron.reset for node in graph.of(Fire)})
    notes = {k: v for k, v in graph.notes.items() if next(unwritable({k: v}), None) is None}
    facts: dict[str, Any] = {
        "made_by": f"spiking-resnet {_version()}",
        "format": FORMAT_VERSION,
        "profile": profile.name,
        "dt": 1.0,
        "reset": "/".join(resets),
        "fires": "above threshold" if profile.strict else "at threshold",
        "input_coding": "the image as the same current at every step",
        "changes": json.dumps(list(told)),
        "notes": json.dumps(notes),
        "ends": json.dumps(_ends(graph)),
    }
    if steps is not None:
        facts["steps"] = steps
    for name in ("normalisation", "classes", "dataset"):
        if notes.get(name) is not None:
            facts[name] = json.dumps(notes[name])
    return facts


def _ends(graph: Graph) -> dict[str, Any]:
    """Return the settings of the image and the read-out."""
    settings = describe(graph.with_notes({}))["nodes"]
    found: dict[str, Any] = {}
    for entry in settings:
        if entry["kind"] in (Input.__name__, "Output"):
            left = ("kind", "name", "inputs", "shape", "source")
            found[entry["kind"]] = {k: v for k, v in entry.items() if k not in left}
    return found


def _version() -> str:
    try:
        return version("spiking-resnet")
    except PackageNotFoundError:
        return "unknown"


def write(
    made: Exported, path: Path, profile: Profile, steps: int | None, images: Tensor | None
) -> None:
    """Write a file, whole or not at all."""
    nir, h5py = needed("nir", "nir"), needed("h5py", "nir")
    content = io.BytesIO()
    nir.write(content, made.nir)
    with h5py.File(content, "r+") as file:
        if profile.old_schema:
            _make_old(file, made.nir)
        if images is not None:
            steps = steps or _steps(made.graph) or GOLDEN_STEPS
            golden.add(file, made.graph, made.nir, images, steps)
    write_whole(path, content.getvalue(), folders=False)


def _make_old(file: Any, drawn: Any) -> None:
    """Change an open file to what readers of NIR before 1.0.5 know.

    What nodes say beside their fields goes into the metadata of the graph.
    """
    for node in file["node/nodes"].values():
        for name in {"v_reset", "metadata"} & node.keys():
            del node[name]
    told = {name: node.metadata for name, node in drawn.nodes.items()}
    file["node/metadata/nodes"] = json.dumps(told)


def cost(graph: Graph, made: Exported, images: Tensor, steps: int) -> str:
    """Return, in words, what making a network ready costs on images; a Caution if it is much."""
    before, after = (simulate(each, images, steps).logits[-1] for each in (graph, made.graph))
    same = int((before.argmax(1) == after.argmax(1)).sum())
    told = f"after {steps} steps it decides as the network did on {same} of {len(images)} images"
    if 2 * same >= len(images):
        return told
    changed = any(one.neuron.reset != "zero" for one in graph.of(Fire)) and all(
        one.neuron.reset == "zero" for one in made.graph.of(Fire)
    )
    return Caution(f"{told}: {_RESETS if changed else _LONGER}")


def _write_format(graph: Graph, path: Path, asked: Asked) -> tuple[str, ...]:
    profile = profile_named(asked.profile or "plain")
    made = exported(graph, profile, asked.steps)
    write(made, path, profile, asked.steps, asked.images)
    told = [*made.told, f"read it with {profile.note}"]
    if made.told and asked.images is not None:
        steps = asked.steps or _steps(graph) or GOLDEN_STEPS
        told.insert(-1, cost(graph, made, asked.images, steps))
    return tuple(told)


FORMAT = Format(
    name="nir",
    suffix=".nir",
    extra="nir",
    honours=("steps", "profile", "images"),
    summary="NIR, for Norse, SpikingJelly, sinabs and others (docs/interop.md)",
    write=_write_format,
)
