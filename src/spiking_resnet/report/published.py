"""Published losses of conversion methods, beside which a study's own stand."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from spiking_resnet.report.block import Row, Table, columns


@dataclass(frozen=True)
class Published:
    """A published loss, in points of top-1 accuracy below the ANN that was converted."""

    dataset: str
    network: str
    method: str
    steps: int
    loss: float
    source: str


_PAPER = "Hu, Tang, Pan, arXiv 1805.01352"
_LTB = "local threshold balancing (LTB), CVPR 2025"
_DCGS = "DCGS with 4 thresholds, ICML 2025"
PUBLISHED = (
    Published("imagenet", "ResNet-34", _PAPER, 350, 1.70, "73.31 to 71.61"),
    Published("imagenet", "ResNet-50", _PAPER, 350, 3.38, "76.13 to 72.75"),
    Published("imagenet", "ResNet-18", _LTB, 32, 4.21, "69.76 to 65.55"),
    Published("imagenet", "ResNet-18", _LTB, 64, 1.23, "69.76 to 68.53"),
    Published("imagenet", "ResNet-34", _DCGS, 4, 3.07, "76.42 to 73.35"),
    Published("imagenet", "ResNet-34", _DCGS, 8, 0.38, "76.42 to 76.04"),
)


def table(datasets: Collection[str]) -> Iterator[Table]:
    """Published losses for some data sets; nothing where none are known."""
    rows = [
        Row((one.dataset, one.network, one.method, str(one.steps), f"{one.loss:.2f}", one.source))
        for one in PUBLISHED
        if one.dataset in datasets
    ]
    if rows:
        names = ("data set", "network", "method", "T", "loss", "accuracies, %")
        yield Table(
            columns(3, names),
            tuple(rows),
            title="Published losses, points below the ANN",
            footnotes=("Of other weights and images: compare losses, not accuracies.",),
            shape="wide",
            apart=True,
        )
