"""The command `train`: train an ANN for conversion."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, cast

import typer

from spiking_resnet.ann.activation import Activation
from spiking_resnet.ann.data import load_dataset
from spiking_resnet.ann.images import ImageData
from spiking_resnet.ann.progress import progress_bar
from spiking_resnet.ann.recipe import RECIPES, TrainConfig
from spiking_resnet.ann.resnet import Block, ResNetConfig, Shortcut, depth_of
from spiking_resnet.ann.train import PERCENTILE, Start, TrainProgress, TrainResult, start_from
from spiking_resnet.ann.train import train as train_network
from spiking_resnet.ann.training_state import state_path
from spiking_resnet.cli import options
from spiking_resnet.cli.groups import Group, grouped
from spiking_resnet.cli.kept import going_on
from spiking_resnet.cli.outputs import check_data, check_outputs
from spiking_resnet.cli.provenance import shared_command_line
from spiking_resnet.cli.signals import between_steps
from spiking_resnet.cli.terminal import err, say
from spiking_resnet.processes.training import Processes, joined
from spiking_resnet.records import InputError

EPILOG = """
Examples:

  spiking-resnet train --model resnet8 --dataset digits \\
      --out resnet8.safetensors

  spiking-resnet train --model resnet20 --dataset cifar10 --data DIR \\
      --device cuda --out resnet20.safetensors

  spiking-resnet train --model resnet20 --dataset cifar10 --recipe paper \\
      --out paper.safetensors

  spiking-resnet train --model resnet20 --from resnet20.safetensors \\
      --activation qcfs --recipe finetune --out qcfs.safetensors

  spiking-resnet train --model resnet44 --from resnet20.safetensors \\
      --out resnet44.safetensors

  torchrun --nproc-per-node 4 -m spiking_resnet.cli train \\
      --model resnet110 --device cuda --out resnet110.safetensors

Stopped at any moment, the same command goes on where it was; once it is finished, it does nothing.
The test set chooses nothing.
"""


@dataclass(frozen=True)
class NetworkFlags(Group):
    """The architecture to train."""

    model: Annotated[str, typer.Option("--model", help="resnetD, D = 6n+2 (bottleneck: 9n+2).")] = (
        "resnet20"
    )
    width: Annotated[int, typer.Option("--width", help="Channels of the first stage.")] = 16
    shortcut: Annotated[
        str,
        typer.Option(
            "--shortcut", help="A, B, paper, or paper-average: of 2x2 pixels before it strides."
        ),
    ] = "paper"
    block: Annotated[str, typer.Option("--block", help="basic or bottleneck.")] = "basic"
    activation: Annotated[
        str,
        typer.Option(
            "--activation", help="relu, or qcfs: quantised to --levels, made for conversion."
        ),
    ] = "relu"
    levels: Annotated[int, typer.Option("--levels", help="qcfs: steps up to its threshold.")] = 8
    start: Annotated[
        Path | None,
        typer.Option(
            "--from",
            show_default=False,
            help="File of trained weights to begin with; its architecture is taken too, "
            "but for a deeper --model.",
        ),
    ] = None
    percentile: Annotated[
        float,
        typer.Option(
            "--percentile", help="With --from, qcfs: of its activations, the first thresholds."
        ),
    ] = PERCENTILE

    def config(self, found: Start | None, images: ImageData) -> ResNetConfig:
        """The architecture, of the file at --from if there is one."""
        kind = cast(Activation, self.activation)
        if found is not None:
            return found.config(kind, self.levels, depth_of(self.model))
        return ResNetConfig(
            depth_of(self.model), images.classes, images.channels, self.width,
            cast(Block, self.block), cast(Shortcut, self.shortcut),
            activation=kind, levels=self.levels,
        )  # fmt: skip


@dataclass(frozen=True)
class RecipeFlags(Group):
    """The training flags; None takes the recipe's value."""

    recipe: Annotated[str, typer.Option("--recipe", help=f"One of {', '.join(RECIPES)}.")] = (
        "modern"
    )
    epochs: Annotated[int | None, typer.Option("--epochs", show_default="the recipe's")] = None
    batch_size: Annotated[int | None, typer.Option("--batch-size", show_default="the recipe's")] = (
        None
    )
    learning_rate: Annotated[
        float | None, typer.Option("--lr", help="The highest.", show_default="the recipe's")
    ] = None
    weight_decay: Annotated[
        float | None, typer.Option("--weight-decay", show_default="the recipe's")
    ] = None
    norm_momentum: Annotated[
        float,
        typer.Option(
            "--norm-momentum", help="BatchNorm: share of a batch in its running statistics."
        ),
    ] = 0.1
    tails: Annotated[
        float,
        typer.Option(
            "--tails",
            help="Weight in the loss of activations far above the usual (short tails).",
        ),
    ] = 0.0
    held_out: Annotated[
        int,
        typer.Option("--held-out", help="Training images kept aside to choose the best epoch."),
    ] = 0
    seed: Annotated[int, typer.Option("--seed", help="Of weights, order and augmentation.")] = 0
    device: options.DeviceOption = "cpu"
    precision: Annotated[str, typer.Option("--precision", help="auto, fp32 or bf16.")] = "auto"
    compiled: Annotated[
        bool,
        typer.Option("--compile", help="By torch.compile: faster after a minute; CPUs need g++."),
    ] = False
    half: Annotated[
        bool, typer.Option("--half", help="Store float16: half the size, measured as stored.")
    ] = False


@dataclass(frozen=True)
class TeacherFlags(Group):
    """The teacher: a better network whose logits the training learns from."""

    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            show_default=False,
            rich_help_panel="Teacher",
            help="File of a better network to learn from, too.",
        ),
    ] = None
    teacher_normalisation: Annotated[
        str | None,
        typer.Option(
            "--teacher-normalisation", help="As --normalisation.", rich_help_panel="Teacher",
            show_default="what its file says, else the data set's",
        ),
    ] = None  # fmt: skip

    def load(self) -> Start | None:
        """The teacher network, normalised as asked for."""
        found = None if self.teacher is None else start_from(self.teacher)
        wanted = options.parse_normalisation(self.teacher_normalisation)
        if wanted is None:
            return found
        if found is None:
            raise InputError("--teacher-normalisation without --teacher: leave it out")
        facts = {**found.facts, "normalisation": wanted.to_json()}
        return replace(found, normalisation=wanted, facts=facts)


@grouped
def train(
    ctx: typer.Context,
    out_path: Annotated[
        Path, typer.Option("--out", help="The .safetensors file to write.", show_default=False)
    ],
    network: NetworkFlags,
    recipe: RecipeFlags,
    teacher: TeacherFlags,
    dataset: Annotated[
        str, typer.Option(help=f"{', '.join(options.DATASETS)}, {options.PATH_OF_SET}.")
    ] = "cifar10",
    data: options.DataOption = None,
    download: options.DownloadOption = False,
    normalisation: options.NormalisationOption = None,
    resume: Annotated[bool, typer.Option(help="Go on with a training that was stopped.")] = True,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace the file at --out, once the new one is done."),
    ] = False,
) -> None:
    """Train a residual network for small images, and save it with all facts of its making."""
    depth = depth_of(network.model)
    options.check_device(recipe.device)
    outputs = {"--out": out_path}
    check_outputs(outputs, {"--from": network.start, "--teacher": teacher.teacher})
    check_data(outputs, dataset, data)
    processes = joined(recipe.device)
    found = None if network.start is None else _start(ctx, network.start, depth, network.percentile)
    taught_by = teacher.load()
    wanted = options.parse_normalisation(normalisation)
    if wanted is None and found is not None:
        wanted = found.normalisation
    images, test = (
        replace(each, normalisation=wanted or each.normalisation)
        for each in (load_dataset(dataset, split, data, download) for split in ("train", "test"))
    )
    config = TrainConfig(
        model=network.config(found, images), command=shared_command_line(ctx),
        **{one.name: getattr(recipe, one.name) for one in fields(recipe)},
    )  # fmt: skip
    if state_path(out_path).is_file() and resume and processes.first:
        say(f"going on with the training in {state_path(out_path)}")
    with going_on(ctx, state_path(out_path)), _steps(processes) as progress:
        result = train_network(
            config, images, test, out_path, resume, progress, found, taught_by, processes, overwrite
        )
    processes.leave()
    if processes.first:
        _tell(result, network.model, dataset, len(test), out_path)


def _tell(result: TrainResult, model: str, dataset: str, images: int, path: Path) -> None:
    """Print what was trained, and what to do with it."""
    if result.repeated:
        say("this training is finished already; --overwrite trains again")
    say(f"{model} on {dataset}: {100 * result.accuracy:.2f} % of {images:,} test images")
    epochs = f"{result.epochs} epoch{'s' if result.epochs != 1 else ''}"
    say(f"{epochs} in {result.seconds:.0f} s; {result.selection}")
    wrote = "it is in" if result.repeated else "wrote"
    say(f"{wrote} {path}; next: spiking-resnet convert {model} --weights {path}")


@contextmanager
def _steps(processes: Processes) -> Iterator[Callable[[TrainProgress], None] | None]:
    """What is told of every step, and stops the training after one; None where others tell it."""
    if not processes.first:
        yield None
        return
    far = "no step is done"
    with between_steps() as look, progress_bar(err) as show:

        def step(now: TrainProgress) -> None:
            nonlocal far
            far = f"step {now.step:,} of {now.steps:,} is done"
            show(now)
            look()

        try:
            yield step
        except KeyboardInterrupt as stop:
            stop.add_note(far)
            raise


def _start(ctx: typer.Context, path: Path, depth: int, percentile: float) -> Start:
    """The network to begin with; InputError where another architecture is asked for."""
    for option in ("width", "shortcut", "block"):
        if _said(ctx, option):
            raise InputError(f"--{option} with --from: the file says it already; leave it out")
    found = start_from(path, percentile)
    own = found.model.config.depth
    if own > depth or (own < depth and not _said(ctx, "model")):
        raise InputError(f"{path} holds a resnet{own}: name it, or a deeper one, by --model")
    return found


def _said(ctx: typer.Context, option: str) -> bool:
    """Whether the user gave the option."""
    source = ctx.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"
