"""The blocks of a verification: a row for each reader of an NIR file."""

from spiking_resnet.export.nir.verification import Reading, Verification
from spiking_resnet.report.block import Block, Column, Row, Table, Terms, Text

_COLUMNS = (
    Column("reader", align="left", folds=True),
    Column("spikes", align="left", folds=True, note="against those of this package"),
    Column("how it differs", align="left", folds=True, note="what matters first before the rest"),
    Column("decides alike", note="on so many images, by what reaches the output"),
)
_RIGHT = Column("right", note="of its decisions")


def blocks(found: Verification) -> list[Block]:
    """What was run, a table of readers, and what was changed for the file's reader."""
    own = "" if found.right is None else f", {found.right} of its decisions are right"
    facts = (
        ("file", found.file),
        ("made for", f"profile {found.profile}" if found.profile else "nobody it names"),
        ("images", f"{found.images:,}, {found.steps} time steps each"),
        ("this package", f"{found.spikes:,} spikes of {found.neurons:,} neurons{own}"),
    )
    labelled = found.right is not None
    table = Table(
        columns=(*_COLUMNS, _RIGHT) if labelled else _COLUMNS,
        rows=tuple(_row(each, found.images, labelled) for each in found.readings),
        title="Readers",
        shape="wide",
    )
    changes = [Text("Changed for its reader:"), *(Text(f"  {each}") for each in found.changes)]
    return [Terms(facts), table, *(changes if found.changes else [])]


def _row(each: Reading, images: int, labelled: bool) -> Row:
    cells: tuple[str, ...] = (
        f"{each.reader} ({each.versions})" if each.versions else each.reader,
        _spikes(each),
        _why(each),
        "" if each.same is None else f"{each.same} of {images}",
    )
    if labelled:
        cells = (*cells, "" if each.right is None else str(each.right))
    return Row(cells, "strong" if each.exact else "plain")


def _spikes(each: Reading) -> str:
    if each.different is None:
        return "does not run"
    if each.exact:
        return "exact"
    return f"{each.different:,} differ, from step {each.step} in {each.layer} on"


def _why(each: Reading) -> str:
    if each.problem:
        return each.problem
    if each.exact or each.explained is None:
        return each.why
    why = each.why or "not known"
    return why if each.explained else f"not explained by the reader's rule: {why}"
