"""The command `convert`: from a trained network to a file with a spiking one."""

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import typer

from spiking_resnet.cli import options
from spiking_resnet.cli.conversion import (
    Choice,
    chosen_method,
    converted,
    dataset_of,
    images_for,
    refuse_test_images,
    said_by,
    store,
    suited,
    tell_normalisation,
)
from spiking_resnet.cli.networks import file_of, network
from spiking_resnet.cli.outputs import check_data, check_outputs
from spiking_resnet.cli.provenance import command_line
from spiking_resnet.cli.terminal import say, show, warn
from spiking_resnet.conversion.methods import METHODS, PRESETS, Method
from spiking_resnet.report import conversion

EPILOG = """
Examples:

  spiking-resnet convert digits_resnet8 --out snn.safetensors

  spiking-resnet convert resnet20 --weights resnet20.safetensors --data DIR --out snn.safetensors

  spiking-resnet convert torchvision:resnet34 --weights default --dataset imagenet --data DIR
  --per-class 5

  spiking-resnet convert my_network.py:build --weights mine.pt --dataset train.npz
  --normalisation 0.5/0.25

  spiking-resnet convert model.onnx --dataset DIR --normalisation pixels   (Keras, with Rescaling)

  spiking-resnet convert resnet20 --weights r20.pt --dataset cifar10 --compensation search

Next: spiking-resnet evaluate snn.safetensors
"""
CORRECTIONS = ("none", "bias", "potential", "offsets")  # compensation of `calibrated`
_METHOD, _DATA = "Method", "Calibration images"


def _option(name: str, text: str, *flags: str) -> Any:
    """A typer option of the method, with the method's own default shown."""
    default = str(next(getattr(kind, name) for kind in METHODS.values() if hasattr(kind, name)))
    return typer.Option(*flags, help=text, rich_help_panel=_METHOD, show_default=default)


_SWITCHES = {  # flags of an option that is on, and off
    "per_channel": ("--per-channel", "--per-layer"),
    "signed": ("--signed", "--unsigned"),
    "waits": ("--wait", "--no-wait"),
    "bias_shift": ("--bias-shift", "--no-bias-shift"),
    "weights": ("--fit-weights", "--keep-weights"),
    "shortcut_conversion": ("--shortcut-conversion", "--no-shortcut-conversion"),
    "pool_neurons": ("--pool-neurons", "--no-pool-neurons"),
}


def arguments_of(method: Method) -> list[str] | None:
    """What to type after `convert` for this method, without its seed; None where that cannot be.

    Options that have their defaults are left out.
    """
    found = ["--method", method.name]
    for entry in fields(method):
        value = getattr(method, entry.name)
        if value == entry.default or entry.name == "seed":
            continue
        if entry.name in _SWITCHES:
            on, off = _SWITCHES[entry.name]
            found.append(on if value else off)
        elif entry.name in signature(convert).parameters:
            found += [f"--{entry.name.replace('_', '-')}", "none" if value is None else f"{value}"]
        else:
            return None
    return found


def convert(
    ctx: typer.Context,
    model: options.ModelArgument,
    weights: options.WeightsOption = None,
    weights_key: options.WeightsKeyOption = None,
    out_path: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path(
        "snn.safetensors"
    ),
    dataset: options.DatasetOption = None,
    data: options.DataOption = None,
    download: options.DownloadOption = False,
    split: Annotated[
        str, typer.Option(help="Split to calibrate on.", rich_help_panel=_DATA)
    ] = "train",
    calibration_images: Annotated[
        int, typer.Option(help="How many, chosen by --seed.", rich_help_panel=_DATA)
    ] = 500,
    per_class: Annotated[
        int | None,
        typer.Option(
            help="So many of each class instead (the paper, on ImageNet: 5).",
            rich_help_panel=_DATA,
            show_default=False,
        ),
    ] = None,
    normalisation: options.NormalisationOption = None,
    crop: options.CropOption = None,
    seed: options.SeedOption = 0,
    method: Annotated[
        str,
        typer.Option(
            help=f"One of {', '.join(METHODS)}; or, published sets of options of calibrated: "
            f"{', '.join(PRESETS)}.",
            rich_help_panel=_METHOD,
        ),
    ] = "hu2021",
    thresholds: Annotated[
        str | None,
        _option("thresholds", "calibrated: percentile, mmse, iterated, gaussian or balanced."),
    ] = None,
    weights_fitted: Annotated[
        bool | None,
        _option(
            "weights",
            "calibrated: refit them to what layers receive.",
            "--fit-weights/--keep-weights",
        ),
    ] = None,
    rounds: Annotated[int | None, _option("rounds", "calibrated: of its compensation.")] = None,
    images: Annotated[
        int | None, _option("images", "Of the calibration images, used layer by layer.")
    ] = None,
    delay: Annotated[
        str | None,
        typer.Option(
            help="calibrated: steps that the read-out leaves out, or auto.",
            rich_help_panel=_METHOD,
            show_default="3/8 of them",
        ),
    ] = None,
    percentile: Annotated[
        float | None,
        _option("percentile", "Of a layer's activations: its threshold (imagenet: 99.99)."),
    ] = None,
    per_channel: Annotated[
        bool | None,
        _option("per_channel", "Thresholds for each channel.", "--per-channel/--per-layer"),
    ] = None,
    initial_potential: Annotated[
        float | None, _option("initial_potential", "Before the first step, in thresholds.")
    ] = None,
    bias_shift: Annotated[
        bool | None,
        _option(
            "bias_shift", "calibrated: it enters as a current.", "--bias-shift/--no-bias-shift"
        ),
    ] = None,
    reset: Annotated[str | None, _option("reset", "subtract or zero.")] = None,
    levels: Annotated[
        int | None,
        _option("levels", "Most spikes in a step (differential, dcgs: sizes of a spike)."),
    ] = None,
    signed: Annotated[
        bool | None, _option("signed", "Neurons may take spikes back.", "--signed/--unsigned")
    ] = None,
    waits: Annotated[
        bool | None,
        _option("waits", "calibrated: for their whole input (layer-serial).", "--wait/--no-wait"),
    ] = None,
    first: Annotated[
        float | None,
        typer.Option(
            help="differential: height of the first step's spikes, in thresholds.",
            rich_help_panel=_METHOD,
            show_default="by levels",
        ),
    ] = None,
    last: Annotated[
        float | None,
        typer.Option(
            help="differential: that of the last step's.",
            rich_help_panel=_METHOD,
            show_default="searched",
        ),
    ] = None,
    lead: Annotated[
        float | None,
        _option("lead", "differential: share of T by which the first layer settles earlier."),
    ] = None,
    caution: Annotated[
        float | None, _option("caution", "differential: 0.5 to 1; more saves spikes.")
    ] = None,
    gate: Annotated[
        str | None, _option("gate", "qcfs: of neurons after pre-steps: none, srp or cos.")
    ] = None,
    pre_steps: Annotated[
        int | None, _option("pre_steps", "qcfs: steps before the counted ones, for the gate.")
    ] = None,
    shortcut_conversion: Annotated[
        bool | None,
        _option(
            "shortcut_conversion",
            "The paper's model of shortcuts; --no-shortcut-conversion is its ablation.",
        ),
    ] = None,
    compensation: Annotated[
        str | None,
        _option("compensation", f"A factor, or search; calibrated: {', '.join(CORRECTIONS)}."),
    ] = None,
    compensation_steps: Annotated[
        int | None, _option("compensation_steps", "Time steps of that search.")
    ] = None,
    pool_neurons: Annotated[
        bool | None, _option("pool_neurons", "Neurons of their own after average pools.")
    ] = None,
    max_pooling: Annotated[
        str | None, _option("max_pooling", "cumulative, or instant (wrong on spikes).")
    ] = None,
    readout: Annotated[
        str | None,
        _option("readout", "spikes+membrane, membrane, or auto."),
    ] = None,
    input_coding: Annotated[str | None, _option("input_coding", "constant or poisson.")] = None,
    steps: Annotated[
        int | None, _option("steps", "The longest simulation it is made for: exact that far.")
    ] = None,
    grid: Annotated[str | None, _option("grid", "Most bits of the weights' grid, or none.")] = None,
    sum_bits: Annotated[
        int | None,
        _option("sum_bits", "Bits of what a neuron receives in a step: 16 (fast) to 24."),
    ] = None,
) -> None:
    """Turn a trained network into a spiking one, calibrated on training images.

    MODEL is never changed. The file holds the spiking network, the network
    it came from, and what `evaluate` needs to know (data set, normalisation).
    """
    options_given = {
        "percentile": percentile,
        "per_channel": per_channel,
        "initial_potential": initial_potential,
        "reset": reset,
        "levels": levels,
        "signed": signed,
        "waits": waits,
        "bias_shift": bias_shift,
        "first": first,
        "last": last,
        "lead": lead,
        "caution": caution,
        "gate": gate,
        "pre_steps": pre_steps,
        "shortcut_conversion": shortcut_conversion,
        "compensation": compensation
        if compensation in CORRECTIONS
        else options.parse_compensation(compensation),
        "thresholds": thresholds,
        "weights": weights_fitted,
        "rounds": rounds,
        "images": images,
        "delay": int(delay) if delay is not None and delay.isdigit() else delay,
        "compensation_steps": compensation_steps,
        "pool_neurons": pool_neurons,
        "max_pooling": max_pooling,
        "readout": readout,
        "input_coding": input_coding,
        "steps": steps,
        "sum_bits": sum_bits,
    }
    given = {name: value for name, value in options_given.items() if value is not None}
    chosen = chosen_method(method, {**given, **options.parse_grid(grid)}, seed)
    wanted, framing = options.parse_normalisation(normalisation), options.parse_crop(crop)
    outputs = {"--out": out_path}
    check_outputs(outputs, {"the network": file_of(model), "--weights": weights})
    source = network(model, weights, seed, dataset=dataset, key=weights_key)
    if source.remark:
        warn(source.remark)
    name = dataset_of(source, dataset)
    refuse_test_images(name, split)
    check_data(outputs, name, data)
    choice = Choice(calibration_images, per_class, seed, split)
    found = images_for(source, name, split, data, download, wanted, framing)
    origin = said_by(source, found.name, wanted)
    tell_normalisation(found, origin)
    chosen = suited(chosen, given, found)
    graph = converted(source, name, found, chosen, choice, command_line(ctx), origin)
    store(graph, out_path)
    show(conversion.blocks(graph))
    where = "" if data is None else f" --data {data}"
    say(f"wrote {out_path}; next: spiking-resnet evaluate {out_path}{where}")
