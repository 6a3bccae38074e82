"""Write reports to files: the registry of renderers by suffix."""

from collections.abc import Callable, Mapping
from pathlib import Path

from spiking_resnet.files import write_whole
from spiking_resnet.records import InputError
from spiking_resnet.report import figure, markdown, page
from spiking_resnet.report.block import Report

Renderer = Callable[[Report], bytes]
DOCUMENTS: Mapping[str, Renderer] = {  # they show every block
    ".md": markdown.render,
    ".html": page.document,
}
FIGURES: Mapping[str, Renderer] = {  # they draw the charts alone
    suffix: figure.renderer(suffix[1:]) for suffix in figure.SUFFIXES
}
RENDERERS = {**DOCUMENTS, **FIGURES}


def write(blocks: Report, path: str | Path, usual: str = "") -> None:
    """Write blocks in the form that the suffix of `path` names; the file is whole, or as it was.

    usual: the form of a document where the suffix names none (".md"). Raises InputError for
    another suffix and where nothing can be drawn, OSError where the file cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    known = DOCUMENTS if usual else RENDERERS
    render = known.get(suffix) or known.get(usual)
    if render is None:
        raise InputError(f"{path}: a report's name ends in one of {', '.join(known)}")
    write_whole(path, render(blocks))
