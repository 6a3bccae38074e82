"""The command `export`: a spiking network as a file that other programs run."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import torch
import typer

from spiking_resnet.cli import options
from spiking_resnet.cli.evaluate import test_images
from spiking_resnet.cli.groups import grouped
from spiking_resnet.cli.outputs import check_data, check_outputs, say_wrote, write_json
from spiking_resnet.cli.provenance import command_line, file_facts, versions
from spiking_resnet.cli.stored import stored
from spiking_resnet.cli.terminal import say, warn
from spiking_resnet.export.format import Caution
from spiking_resnet.export.formats import FORMATS, Asked, format_named
from spiking_resnet.export.nir.profiles import PROFILES
from spiking_resnet.graph import Graph
from spiking_resnet.records import InputError

EPILOG = f"""
Examples:

  spiking-resnet export snn.safetensors --to torch --steps 32 --out snn.pt2

  spiking-resnet export snn.safetensors --to onnx --out snn.onnx
  (one step, state in and out)

  spiking-resnet export snn.safetensors --to nir --profile sinabs \\
      --steps 64 --golden 20 --data DIR --out snn.nir

  spiking-resnet export snn.safetensors --to c --bits 8 \\
      --potential-bits 16 --out network.c

NIR takes networks of 0/1 integrate-and-fire neurons (hu2021, calibrated; the profiles other than
plain: hu2021 and what keeps one initial potential for a channel) without max pools; C takes those,
signed spikes and several levels. Differential and DCGS networks go to onnx and torch.

Formats: {"; ".join(f"{entry.name} ({entry.summary})" for entry in FORMATS.values())}.
"""


@grouped
def export(
    ctx: typer.Context,
    snn: Annotated[Path, typer.Argument(help="A file that `convert` wrote.")],
    shown: options.ImageFlags,
    to: Annotated[str, typer.Option("--to", help=f"{', '.join(FORMATS)}.")],
    out_path: Annotated[
        Path | None,
        typer.Option(
            "--out", help="The file to write.", show_default="that of the network, renamed"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Number of time steps T that the file is for. ONNX and torch: images in, logits "
            "after T steps out; left out, the file is one step, with the state in and out. NIR: "
            "the T that the network was made for, if it was; the profiles of simulators need one.",
            show_default=False,
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(
            help=f"NIR only: the simulator that will read the file, one of {', '.join(PROFILES)}. "
            "The network is changed until the graph alone says what that simulator computes; for "
            "plain nothing is changed, and the reader must heed the file's metadata.",
            show_default="plain",
        ),
    ] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            help="C only: bits of each weight, sign included. Fewer make the program smaller and "
            "cost accuracy (docs/integer_form.md measures it).",
            show_default="8",
        ),
    ] = None,
    per_layer: Annotated[
        bool,
        typer.Option(
            "--per-layer",
            help="C only: one scale for all weights of a layer, instead of one for each channel.",
        ),
    ] = False,
    potential_bits: Annotated[
        int | None,
        typer.Option(
            help="C only: bits of each membrane potential, 32 or fewer. With fewer than 32 a "
            "potential that would leave their range stays at its end (it saturates).",
            show_default="32",
        ),
    ] = None,
    golden: Annotated[
        int | None,
        typer.Option(
            "--golden",
            help="NIR only: write the spikes of so many test images, chosen by --seed, into the "
            "file. `verify` compares with them, and `export` says how many of these images the "
            "network for the profile decides as before.",
            show_default=False,
        ),
    ] = None,
    seed: options.SeedOption = 0,
    json_path: options.JsonOption = None,
) -> None:
    """Write a spiking network as a file that other programs run, spike for spike."""
    chosen = format_named(to)
    for option, value in {"--steps": steps, "--bits": bits, "--golden": golden}.items():
        if value is not None and value < 1:
            raise InputError(f"{option} is {value}: at least 1")
    path = snn.with_suffix(chosen.suffix) if out_path is None else out_path
    beside = {
        f"the {suffix} file": path.with_suffix(suffix) for suffix in chosen.beside if path.name
    }
    outputs = {"--out": path, **beside, "--json": json_path}
    check_outputs(outputs, {"the network": snn})
    asked = Asked(
        steps=steps,
        profile=profile,
        bits=bits,
        per_layer=per_layer or None,
        potential_bits=potential_bits,
    )
    unread = None if golden is None else torch.empty(0, dtype=torch.float32)
    chosen.check(replace(asked, images=unread))
    graph = stored(snn)
    if golden is not None:
        asked = _with_golden(asked, graph, snn, shown, golden, seed, outputs)
    replaced = out_path is None and path.exists()
    told = chosen.export(graph, path, asked)
    for sentence in told:
        (warn if isinstance(sentence, Caution) else say)(sentence)
    say_wrote(path, replaced)
    if json_path is not None:
        facts = {"format": to, "steps": steps, "profile": profile, "bits": bits,
                 "per_layer": per_layer, "potential_bits": potential_bits, "golden": golden,
                 "seed": seed, "told": list(told), "file": file_facts(snn),
                 "written": file_facts(path), "command": command_line(ctx),
                 "versions": versions()}  # fmt: skip
        write_json(json_path, facts)
        say_wrote(json_path)


def _with_golden(
    asked: Asked,
    graph: Graph,
    snn: Path,
    shown: options.ImageFlags,
    golden: int,
    seed: int,
    outputs: dict[str, Path | None],
) -> Asked:
    """What was asked, with so many test images of the network's own data set."""
    name, images = test_images(graph, snn, "test", shown)
    check_data(outputs, name, shown.data)
    (batch, _), *_ = images.subset(golden, seed).loader(golden)
    return replace(asked, images=batch)
