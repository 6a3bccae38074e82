"""The blocks of the networks that come with the package: a table, and their model cards."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from spiking_resnet.ann.checkpoint import LoadedNetwork
from spiking_resnet.report.block import Block, Column, Row, Table, Text

_COLUMNS = (
    Column("network", align="left"),
    Column("data set", align="left", rank=1),
    Column("accuracy", note="percent of the test images"),
    Column("parameters", rank=2),
    Column("activation", rank=3),
    Column("seconds", rank=4, note="of training"),
)
_AGAIN = (
    *_COLUMNS[:2],
    replace(_COLUMNS[2], note="percent of the test images, as the files say and as measured now"),
    *_COLUMNS[3:5],
    Column("measured"),
)
_TITLE = "The networks that come with the package"
_INTRODUCTION = """\
Made by `spiking-resnet models --cards docs/models.md` from what the files say of themselves. Each
is `spiking_resnet.ann.pretrained(NAME)` in Python and a MODEL of every command; `resnet20 --weights
pretrained --dataset cifar10` is `cifar10_resnet20`.

Where several trainings follow one another, the commands are those that were typed, and each file
was renamed before the next began: the one that `--from` names (`…_quick`, `…_second`, `…_third`,
`…_first`) is the `--out` of the command above."""


def table(
    networks: Mapping[str, LoadedNetwork], measured: Mapping[str, tuple[float, int]] | None = None
) -> Table:
    """The table of the package's networks: a row for each, by name.

    measured: by name, the accuracy in 0..1 that was measured just now, on how many images; shown in
    the place of the time that training took.
    """
    rows = []
    for name, found in networks.items():
        cells = _row(name, found)
        last = f"{100 * measured[name][0]:.2f}" if measured else cells[-1]
        rows.append(Row((*cells[:-1], last)))
    return Table(_AGAIN if measured else _COLUMNS, tuple(rows))


def cards(networks: Mapping[str, LoadedNetwork]) -> list[Block]:
    """A document of all networks' model cards."""
    found = [block for each in networks.items() for block in card(*each)]
    return [Text(_TITLE, "title"), Text(_INTRODUCTION), *found]


def _row(name: str, found: LoadedNetwork) -> tuple[str, ...]:
    facts = found.metadata
    return (
        name, facts["dataset"], f"{100 * facts['accuracy']:.2f}", f"{parameters(found):,}",
        _activation(found), f"{sum(each.get('seconds') or 0 for each in _trainings(facts)):,.0f}",
    )  # fmt: skip


def parameters(found: LoadedNetwork) -> int:
    """The number of trained parameters."""
    return sum(value.numel() for value in found.model.parameters())


def _activation(found: LoadedNetwork) -> str:
    config = found.config
    return "relu" if config.activation == "relu" else f"{config.activation}, {config.levels} levels"


def card(name: str, found: LoadedNetwork) -> list[Block]:
    """A network's model card: what it is, how it was made, how good it is."""
    facts, config = found.metadata, found.config
    means = facts["normalisation"]
    training = facts["training"]
    sources: dict[str, str] = {
        key: _source(facts[key]) for key in ("from", "teacher") if key in facts
    }
    lines: dict[str, str] = {
        "architecture": f"ResNet-{config.depth}, {config.block} blocks, shortcuts {config.shortcut}"
        f", {config.width} channels in the first stage, {parameters(found):,} parameters",
        "activation": _activation(found),
        "data": f"{facts['dataset']}, {facts['training_images']:,} training images, "
        f"normalised by mean {means['mean']}, deviation {means['std']}",
        "accuracy": f"{100 * facts['accuracy']:.2f} % of {facts['test_images']:,} test images",
        "chosen": facts["selection"],
        "recipe": f"{facts['recipe']}: {training['epochs']} epochs of batches of "
        f"{training['batch_size']}, highest rate {training['learning_rate']}, "
        f"precision {training['precision']}",
        **(
            {"tails": f"in the loss with weight {weight}"}
            if (weight := training.get("tails"))
            else {}
        ),
        **sources,
        **({"processes": f"{facts['processes']}, by torchrun"} if "processes" in facts else {}),
        "seed": f"{facts['seed']}; one training",
        "time": " + ".join(_seconds(each) for each in _trainings(facts))
        + f" s{', the last' if 'from' in facts else ''} on {facts['hardware']}",
        "versions": ", ".join(f"{key} {value}" for key, value in facts["versions"].items()),
    }
    commands = "\n".join(each["command"] for each in _trainings(facts) if each.get("command"))
    unnamed = Column("", align="left")
    rows = tuple(Row(line) for line in lines.items())
    return [Text(name, "heading"), Table((unnamed, unnamed), rows), Text(commands, "code")]


def _trainings(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What is known of the trainings that made a network, first of what it began with."""
    before = facts.get("from")
    return [*(_trainings(before) if before else []), facts]


def _seconds(facts: Mapping[str, Any]) -> str:
    return "?" if facts.get("seconds") is None else f"{facts['seconds']:,.0f}"


def _source(facts: Mapping[str, Any]) -> str:
    accuracy = facts["accuracy"]
    said = "" if accuracy is None else f", {100 * accuracy:.2f} %"
    return f"{facts['file']} (sha256 {facts['sha256'][:16]}…){said}"
