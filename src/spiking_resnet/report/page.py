"""One self-contained HTML page: sections of blocks under a verdict in numbers.

Style, the charting library and all data are in it, so that it opens without a network; its content
security policy lets it load nothing, and run no script but its own.
"""

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.resources import files
from typing import Any

from spiking_resnet.report.block import Chart, Report, Text
from spiking_resnet.report.html import fragment, plain, script_json

SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "page.js")
LICENCES = ("vendor/d3.LICENSE", "vendor/plot.LICENSE")


@dataclass(frozen=True)
class Number:
    """A number of the verdict. detail: what qualifies it."""

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page. name: of its anchor, letters and hyphens. groups: blocks that stand apart
    below its own; layout: what they show ("pictured": an image beside the rest of each).
    """

    name: str
    title: str
    blocks: Report
    groups: tuple[Report, ...] = ()
    layout: str = ""


@dataclass(frozen=True)
class Page:
    """A report as a page. kicker: what kind of report it is. lead: the verdict in words. data: the
    numbers of the page, as JSON in it.
    """

    title: str
    sections: tuple[Section, ...]
    kicker: str = ""
    lead: str = ""
    verdict: tuple[Number, ...] = ()
    data: Mapping[str, Any] = field(default_factory=dict)


def render(page: Page) -> bytes:
    """The page as the bytes of an HTML file."""
    scripts = [asset(name) for name in SCRIPTS]
    hashes = " ".join(f"'sha256-{_hash(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    licences = "\n\n".join(asset(name) for name in LICENCES)
    parts = [
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{plain(page.title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n<body>",
        '<a class="skip" href="#content">Skip to the content</a>',
        _header(page),
        f'<div class="shell{" alone" * (len(page.sections) < 2)}">',
        _contents(page),
        f'<main id="content" tabindex="-1">{"".join(map(_section, page.sections))}</main></div>',
        _footer(licences),
        f'<script type="application/json" id="numbers">{script_json(page.data)}</script>',
        *(f"<script>{script}</script>" for script in scripts),
        "</body>\n</html>\n",
    ]
    return "\n".join(filter(None, parts)).encode()


def document(blocks: Report) -> bytes:
    """Any blocks as a page without a verdict; its title is the first title or heading in them."""
    titles = [block for block in blocks if isinstance(block, Text) and block.kind == "title"]
    named = [block.title for block in blocks if isinstance(block, Chart) and block.title]
    title = next(iter([*(block.text for block in titles), *named]), "Report")
    rest = [block for block in blocks if block not in titles[:1]]
    return render(Page(title, (Section("report", "", rest),)))


def asset(name: str) -> str:
    """The text of a file that the page is made of."""
    return files("spiking_resnet.report").joinpath("assets", *name.split("/")).read_text("utf-8")


def _hash(script: str) -> str:
    return b64encode(sha256(script.encode()).digest()).decode()


def _header(page: Page) -> str:
    numbers = "".join(
        f'<div><dt>{plain(each.label)}</dt><dd class="value">{plain(each.value)}</dd>'
        f'<dd class="detail">{plain(each.detail)}</dd></div>'
        for each in page.verdict
    )
    return (
        f'<header class="page"><div class="top"><p class="kicker">{plain(page.kicker)}</p>'
        '<button type="button" class="colours" hidden>Dark colours</button></div>'
        f"<h1>{plain(page.title)}</h1>"
        + (f'<p class="lead">{plain(page.lead).replace(" %", "&nbsp;%")}</p>' if page.lead else "")
        + (f'<dl class="verdict">{numbers}</dl>' if numbers else "")
        + "<noscript><p>Without JavaScript charts are not drawn; their numbers stand below each as "
        "a table.</p></noscript></header>"
    )


def _contents(page: Page) -> str:
    if len(page.sections) < 2:
        return ""
    entries = "".join(
        f'<li><a href="#{each.name}">{plain(each.title)}</a></li>' for each in page.sections
    )
    return f'<nav class="contents" aria-label="Contents"><p>Contents</p><ol>{entries}</ol></nav>'


def _section(section: Section) -> str:
    heading = f'<h2 id="{section.name}-title">{plain(section.title)}</h2>' if section.title else ""
    named = f' aria-labelledby="{section.name}-title"' if section.title else ""
    groups = "".join(f"<article>{fragment(each, 3)}</article>" for each in section.groups)
    cards = f'<div class="cards {section.layout}">{groups}</div>' if groups else ""
    body = fragment(section.blocks, 2)
    return f'<section id="{section.name}"{named}>{heading}{body}{cards}</section>'


def _footer(licences: str) -> str:
    return (
        '<footer class="page"><p>Made by spiking-resnet. Charts: D3 and Observable Plot.</p>'
        '<details><summary>Their licences</summary><pre tabindex="0">'
        f"{plain(licences, chr(10))}</pre></details></footer>"
    )
