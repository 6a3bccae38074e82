"""The blocks of a tuning: its trials, the verdict, and the command that makes the winner."""

from spiking_resnet.conversion.methods import calls
from spiking_resnet.evaluation.trials import Trial, Tuning
from spiking_resnet.report.block import Block, Column, Row, Table, Text
from spiking_resnet.report.comparison import levels
from spiking_resnet.report.numbers import count, decimals, percent

_COLUMNS = (
    Column("recipe", align="left"),
    Column("T"),
    Column("loss"),
    Column("between", rank=2),
    Column("agreement", rank=3),
    Column("operations"),
    Column("levels", rank=1),
    Column("meets"),
)
_MEETS = {"meets": "yes", "uncertain": "not certain", "misses": "no"}
_TRAINING_IMAGES = (
    "These are training images: where the network was trained on them, losses on new images tend "
    "to be larger."
)


def blocks(found: Tuning, call: str | None = None) -> list[Block]:
    """A tuning's trials, the winner or the nearest, and the `call` that makes it."""
    left_out: list[Block] = [
        Text(f"left out: {recipe}: {why}") for recipe, why in found.left_out.items()
    ]
    best = found.winner or found.likely or found.nearest
    if best is None:
        nothing = f"nothing could be tried, so nothing meets a loss of {found.target:g} points"
        return [trials(found), *left_out, Text(nothing)]
    told = [trials(found), *left_out, Text(verdict(found, best))]
    written = calls.written(best.method, best.recipe)
    if call is None:
        return [*told, Text(_TRAINING_IMAGES), Text(written, "code", apart=True)]
    judged = f"{_TRAINING_IMAGES} The second command judges it; the last line is for Python."
    return [*told, Text(judged), Text(f"{call}\n{written}", "code", apart=True)]


def trials(found: Tuning) -> Table:
    """The table of a tuning's trials, in the order in which they were made."""
    text = (
        f"On {found.images:,} training images that no method was made on; ANN "
        f"{percent(found.ann_accuracy, found.images)}. loss: points below the ANN; between: what "
        f"it lies above and below, each with {100 * found.confidence:g} % confidence, of this "
        f"trial by itself ({len(found.trials)} were made). operations: synaptic, of an image."
    )
    return Table(
        columns=_COLUMNS,
        rows=tuple(Row(_cells(trial, found.images)) for trial in found.trials),
        title=f"Tried, the cheapest in {found.measure} first",
        footnotes=(text,),
        shape="wide",
    )


def verdict(found: Tuning, best: Trial) -> str:
    """What was found, in a sentence or two: `best` is the winner, the likely or the nearest."""
    lost = 100 * float(best.reading.paired(found.images).loss)
    share = f"{100 * found.confidence:g} % confidence"
    digits = decimals(found.images)
    named = f"{best.recipe} at T = {best.steps}, which loses {lost:z.{digits}f} points"
    told = f"{named} (at most {best.bounds[1]:.2f} with {share})"
    if best is found.winner:
        said = [f"the cheapest in {found.measure} within {found.target:g} points is {told}"]
        likely = found.likely
        if likely is not None and likely is not best:
            said.append(
                f"{likely.recipe} at T = {likely.steps} would be cheaper and lost "
                f"{likely.reading.loss:z.{digits}f}, which is not certain"
                f"{_settled(found, likely)}"
            )
        return "; ".join(said)
    if best is found.likely:
        return (
            f"nothing is certain to lose at most {found.target:g} points; the cheapest that lost "
            f"no more here is {told}{_settled(found, best)}"
        )
    return f"nothing meets a loss of {found.target:g} points; the nearest is {told}"


def _settled(found: Tuning, trial: Trial) -> str:
    """How many images would settle a trial, as the end of a sentence."""
    images = found.images_to_settle(trial)
    if images is None:
        return ": it is too close to the target for any number of images"
    return f": some {images:,} --validation-images like these would settle it"


def _cells(trial: Trial, images: int) -> tuple[str, ...]:
    digits = decimals(images)
    return (
        trial.recipe,
        str(trial.steps),
        f"{trial.reading.loss:z.{digits}f}",
        f"{trial.bounds[0]:+.2f} … {trial.bounds[1]:+.2f}",
        f"{100 * trial.reading.agreement:.{digits}f}",
        count(trial.reading.operations),
        levels(trial.facts),
        _MEETS[trial.verdict],
    )
