"""What a notebook shows of a record: its blocks as HTML without scripts, charts as images."""

from base64 import b64encode
from importlib.resources import files

from spiking_resnet.report import figure
from spiking_resnet.report.block import Chart, Report
from spiking_resnet.report.html import fragment, plain
from spiking_resnet.report.records import BLOCKS, CHARTS
from spiking_resnet.shown import Shown


def html(record: Shown) -> str | None:
    """A record's blocks and its charts; None for a kind that nothing is shown of."""
    make = BLOCKS.get(type(record))
    if make is None:
        return None
    charts = CHARTS[type(record)](record) if type(record) in CHARTS else ()
    return shown([*make(record), *charts])


def shown(blocks: Report) -> str:
    """Blocks in one element, with the style that concerns it alone."""
    style = files("spiking_resnet.report").joinpath("assets/notebook.css").read_text("utf-8")
    body = fragment(blocks, level=4, draw=image)
    return f'<div class="spiking-resnet"><style>{style}</style>\n{body}</div>'


def image(chart: Chart) -> str:
    """A chart as an image, SVG inside a data URI, where nothing in it can run."""
    drawn = b64encode(figure.render((chart,), "svg")).decode()
    said = f"{chart.title or chart.y.heading}: a chart; its numbers follow as a table"
    return f'<img class="drawn" src="data:image/svg+xml;base64,{drawn}" alt="{plain(said)}">'
