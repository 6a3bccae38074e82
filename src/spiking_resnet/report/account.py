"""The blocks of an account: operations, joules under each cost model, break-even, layers."""

from math import isnan, nan

from spiking_resnet.costs.energy import Account, Priced, Twin
from spiking_resnet.costs.models import Model
from spiking_resnet.costs.work import KINDS, MEMORY, Work
from spiking_resnet.report.block import (
    Axis,
    Block,
    Chart,
    Column,
    Level,
    Row,
    Series,
    Table,
    Terms,
    Text,
)
from spiking_resnet.report.numbers import count

_USUAL = ("fp32", "int8")  # twins that narrow terminals show, too
_TWINS = ("fp32", "int32", "int8", "quantised")
_OPERATIONS = (
    Column("per image", align="left"),
    Column("number"),
    Column("what it is", align="left", folds=True),
)
_LAYERS = (
    Column("node", align="left", folds=True),
    Column("kind", align="left", rank=1),
    Column("spikes"),
    Column("rate", "%"),
    Column("additions"),
    Column("multiply-adds", rank=2),
    Column("share", "%"),
)


def blocks(account: Account, title: str = "") -> list[Block]:
    """All that an account says, its layers under the first model."""
    return [
        prices(account, title),
        *verdicts(account),
        operations(account),
        *([layers(account, account.priced[0])] if account.priced else []),
        *([Text(_INEXACT, "remark")] if not account.exact else []),
    ]


def prices(account: Account, title: str = "") -> Table:
    """A row for each cost model: joules of an image, and the artificial network's."""
    twins = [name for name in _TWINS if any(_twin(each, name) for each in account.priced)]
    bits = {twin.name: twin.bits for each in account.priced for twin in each.twins}
    columns = (
        Column("cost model", align="left", folds=True),
        Column("SNN"),
        Column("silent", rank=1, note="what is left of it if no neuron fires"),
        *(Column(f"ANN {_name(name, bits[name])}", rank=int(name not in _USUAL)) for name in twins),
        Column(
            "even at",
            rank=2,
            note="the firing rate below which it takes less, for each ANN in turn",
        ),
    )
    return Table(
        columns=columns,
        rows=tuple(_priced(each, twins, account.rate) for each in account.priced),
        title=title,
        footnotes=(
            f"Joules of an image, means over {account.images:,} images of {account.steps} time "
            f"steps; rate {100 * account.rate:.2f} % (spikes per neuron and step), "
            f"{account.per_synapse:.3g} spikes per synapse. -: the model has no constant for it.",
        ),
    )


def _priced(priced: Priced, twins: list[str], rate: float) -> Row:
    found = [_twin(priced, name) for name in twins]
    even = [_even(twin) for twin in found if twin is not None and twin.joules is not None]
    return Row(
        (
            priced.model,
            joules(priced.joules),
            joules(priced.silent),
            *("-" if twin is None else joules(twin.joules) for twin in found),
            ", ".join(even) or "-",
        )
    )


def _even(twin: Twin) -> str:
    if twin.break_even is None:
        return "-"
    if twin.break_even >= 1:
        return "always"
    return "never" if twin.break_even == 0 else f"{100 * twin.break_even:.2g} %"


def verdicts(account: Account) -> list[Block]:
    """Who takes less under each model, and what it leaves out."""
    said = [(priced.model, _verdict(priced, account)) for priced in account.priced]
    return [Terms(tuple(said))] if said else []


def _verdict(priced: Priced, account: Account) -> str:
    known = [twin for twin in priced.twins if twin.joules is not None]
    best = min(known, key=lambda twin: twin.joules or 0.0, default=None)
    text = f"{priced.title}. "
    if best is None or best.joules is None:
        text += "No constants for an artificial network. "
    elif priced.joules < best.joules:
        text += (
            f"The spiking network takes {_less(priced.joules, best.joules)} than the ANN with "
            f"{_name(best.name, best.bits)} numbers ({joules(best.joules)}). "
        )
    elif priced.joules > best.joules:
        text += (
            f"The ANN with {_name(best.name, best.bits)} numbers takes "
            f"{_less(best.joules, priced.joules)} ({joules(best.joules)})"
        )
        text += _remedy(best, priced, account)
    else:
        text += f"It takes what the ANN with {_name(best.name, best.bits)} numbers does. "
    if priced.uncounted:
        text += f"Uncounted: {', '.join(map(_words, priced.uncounted))}."
    return text.strip()


def _less(one: float, other: float) -> str:
    """How much less one takes than the other, in words."""
    return f"{other / one:.3g} times less" if one else f"{joules(other)} less, namely nothing,"


def _remedy(twin: Twin, priced: Priced, account: Account) -> str:
    """What would turn the comparison."""
    if not twin.break_even:
        return (
            f": what does not depend on spikes ({joules(priced.silent)}) takes more already; "
            "fewer time steps lower it. "
        )
    fewer = "fewer time steps" + ("" if _sizes(account) else ", or several sizes of spikes")
    return (
        f"; the spiking network would take as much at a rate of {100 * twin.break_even:.2g} % (it "
        f"fires {100 * account.rate:.2g} %) or {twin.per_synapse or 0:.2g} spikes per synapse (it "
        f"has {account.per_synapse:.2g}): {fewer}. "
    )


def _sizes(account: Account) -> bool:
    """Whether the network sends spikes of several sizes."""
    return account.totals["repeated"] > account.totals["accumulations"]


def operations(account: Account) -> Table:
    """The number of operations and accesses of each kind."""
    totals = account.totals
    rows = [
        Row((_words(kind), count(totals[kind]), text))
        for kind, text in {**KINDS, **MEMORY}.items()
        if totals[kind]
    ]
    notes = []
    if _sizes(account):
        notes.append(
            f"A spike of size n counts once, as a shift and an addition; as n additions they would "
            f"be {count(totals['repeated'])}."
        )
    if totals["image_macs"]:
        notes.append(
            f"The image's multiply-adds are done once; at every step they would be "
            f"{count(totals['image_macs'] * account.steps)}."
        )
    return Table(_OPERATIONS, tuple(rows), "Operations and accesses", tuple(notes), shape="long")


def layers(account: Account, priced: Priced) -> Table:
    """A row for each node that does anything, with its share of the joules under one model."""
    return Table(
        columns=_LAYERS,
        rows=tuple(_layer(each, account, priced) for each in account.work),
        title=f"Layers, for one image; share of {joules(priced.joules)} under {priced.model}",
        shape="long",
    )


def _layer(own: Work, account: Account, priced: Priced) -> Row:
    share = priced.layers.get(own.name, 0.0) / priced.joules if priced.joules else 0.0
    fires = own.updates > 0
    rate = own.spikes / (own.values * account.steps)
    return Row(
        (
            own.name,
            own.kind,
            count(own.spikes) if fires else "",
            f"{100 * rate:.2f}" if fires else "",
            _count(own.accumulations + own.identities),
            _count(own.image_macs + own.stream_macs),
            f"{100 * share:.1f}",
        )
    )


def chart(account: Account, title: str = "") -> Chart:
    """The firing rate at which the network would take what each ANN takes, by cost model."""
    shown = [each for each in account.priced if any(twin.break_even for twin in each.twins)]
    names = [name for name in _TWINS if any(_rate(each, name) > 0 for each in shown)]
    most = max(100.0, 125 * account.rate)
    bits = {twin.name: twin.bits for each in shown for twin in each.twins}
    return Chart(
        kind="bars",
        y=Axis("break-even rate", f"% of neurons a step, up to {most:.0f}"),
        series=tuple(
            Series(
                f"ANN {_name(name, bits[name])}",
                tuple(_drawn(each, name, most) for each in shown),
                tone=tone,
            )
            for tone, name in enumerate(names)
        ),
        rows=tuple(each.model for each in shown),
        levels=(Level(100 * account.rate, "this network"),),
        title=title,
    )


def sources(models: list[Model]) -> Terms:
    """Where each constant of the models comes from."""
    found = []
    for model in models:
        priced = {**model.operations, **model.memory, **model.ann}
        each = [
            f"{_words(name)}: {price.source}"
            for name, price in priced.items()
            if not isinstance(price, str)
        ]
        found.append((model.name, f"{model.source}. {model.note} {'; '.join(each)}."))
    return Terms(tuple(found))


def joules(value: float | None) -> str:
    """Joules in three digits with their unit, or a dash."""
    if value is None:
        return "-"
    for unit, name in ((1.0, "J"), (1e-3, "mJ"), (1e-6, "µJ"), (1e-9, "nJ")):
        if value >= 0.9995 * unit:
            return f"{value / unit:.3g} {name}"
    return f"{value / 1e-12:.3g} pJ"


def _rate(priced: Priced, name: str) -> float:
    twin = _twin(priced, name)
    return nan if twin is None or not twin.break_even else 100 * twin.break_even


def _drawn(priced: Priced, name: str, most: float) -> float:
    rate = _rate(priced, name)
    return rate if isnan(rate) else min(rate, most)


def _twin(priced: Priced, name: str) -> Twin | None:
    """The twin of a name, if the model has a constant for it."""
    found = (twin for twin in priced.twins if twin.name == name and twin.joules is not None)
    return next(found, None)


def _name(name: str, bits: int) -> str:
    return f"{bits}-bit" if name == "quantised" else name


def _words(kind: str) -> str:
    return kind.replace("_", " ")


def _count(number: float) -> str:
    return count(number) if number else ""


_INEXACT = (
    "spikes were spread evenly over the neurons of a population, since single neurons were not "
    "counted: operations at the borders of maps are off by a little, and a spike of size n is n"
)
