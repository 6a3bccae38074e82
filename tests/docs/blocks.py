"""The code blocks of a page, and what invisible comments say of them.

<!-- code: given -->     the page goes on from GIVEN: a network, images, a converted network
<!-- code: sweep -->     running the page takes long: not on every push
<!-- code: run -->       the commands of the next block are run, beside the page's other code
<!-- code: not run (reason) -->      the next block is compiled, and the names in it are looked up
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = "python"
SHELL = ("", "sh", "bash", "console")
GIVEN = """
import torch
import spiking_resnet as sr
from spiking_resnet import ann as trained

network = trained.pretrained("digits_resnet8").model
calibration = training_images = next(iter(trained.load_dataset("digits", "train").loader(100)))[0]
loader = trained.load_dataset("digits", "test").loader(10, limit=50)
images, labels = next(iter(loader))
model = ann = network
snn = sr.convert(network, calibration)
"""

_BLOCK = re.compile(
    r"(?:^<!-- code: (?P<mark>run|not run \([^)]+\)) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>[a-z]*)\n(?P<code>.*?)^(?P=indent)```",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A block of code: its language, what is to be done with it, and the line where it begins."""

    language: str
    mark: str
    code: str
    line: int


def blocks(page):
    """All blocks of a page, in order."""
    text = page.read_text()
    for found in _BLOCK.finditer(text):
        indent = found["indent"]
        code = "\n".join(line.removeprefix(indent) for line in found["code"].splitlines())
        line = text[: found.start("code")].count("\n") + 1
        yield Block(found["language"], found["mark"] or "", f"{code}\n", line)


def says(page, word):
    """Whether a page's comments say a word of the page as a whole."""
    return f"<!-- code: {word} -->" in page.read_text()


def commands(block):
    """The arguments after `spiking-resnet` of every command in a block of shell commands."""
    whole = block.code.replace("\\\n", " ")
    for line in whole.splitlines():
        words = shlex.split(line.strip().removeprefix("$ "), comments=True)
        if words[:1] == ["spiking-resnet"]:
            yield words[1:]
        elif "spiking_resnet.cli" in words and "-m" in words:
            yield words[words.index("spiking_resnet.cli") + 1 :]
