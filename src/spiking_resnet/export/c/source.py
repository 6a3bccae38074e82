"""Export to C: an integer form as one C99 file and its header, without dependencies.

The file holds tables and the few functions in `templates/` that run any network;
docs/integer_form.md defines what they compute.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from spiking_resnet import arguments
from spiking_resnet.export.c import ranges
from spiking_resnet.export.c.layout import Layout, Population, layout
from spiking_resnet.export.c.text import BYTES, Tables, Text, Types, most, template
from spiking_resnet.export.integer import to_integers
from spiking_resnet.files import write_whole
from spiking_resnet.graph import Graph, Shape
from spiking_resnet.graph.grids import to_grid
from spiking_resnet.images import as_images, as_maps
from spiking_resnet.records import InputError
from spiking_resnet.surroundings import undisturbed

LEVELS = 256  # of a pixel of 8 bits
MARK = "of spiking-resnet defines it"  # of a file that was written here


@dataclass(frozen=True)
class CSource:
    """A C program of a network.

    source, header: the files. name: what its functions' names begin with. weights, parameters:
    bytes of constants (weights of kernels; thresholds, biases, gains, tables). state: bytes of
    memory that it changes. most_steps: in so many steps no sum leaves 32 bits. image_bits: a pixel
    is round(x * 2^image_bits), int16 [height][width][channel], of an image as `simulate` takes it,
    of this shape.
    """

    source: Path
    header: Path
    name: str
    weights: int
    parameters: int
    state: int
    most_steps: int
    image_bits: int
    shape: Shape

    def pixels(self, images: Tensor) -> Tensor:
        """Return images [N, C, H, W] as the program takes them, int16 [N, H, W, C].

        Raises InputError for other images, and where 16 bits do not hold a pixel.
        """
        images = as_maps(as_images(arguments.image_batch("images", images)))
        if images.shape[1:] != self.shape:
            raise InputError(
                f"images have shape {tuple(images.shape[1:])}, and the program takes {self.shape}"
            )
        whole = to_grid(images, self.image_bits) * 2.0**self.image_bits
        if bool((whole.abs() > 2**15 - 1).any()):
            raise InputError(
                f"a pixel is {float(images.abs().max()):g}, and 16 bits hold "
                f"{(2**15 - 1) / 2**self.image_bits:g}: normalise images as for the calibration"
            )
        return whole.to(torch.int16).permute(0, 2, 3, 1).contiguous()


@arguments.checked(graph=arguments.network, path=arguments.path, name=arguments.text)
@undisturbed()
def to_c(graph: Graph, path: str | Path, name: str = "network") -> CSource:
    """Write a network as `name`.c and `name`.h into the folder `path`, or as the file `path`.

    graph: an integer form; of others `to_integers(graph)` is taken. path: a folder, which is made,
    or the name of a file that ends in .c; the header lies beside it. name: what every public name
    of the program begins with: an identifier of C.

    The spikes are those of `simulate` of the integer form, bit for bit, for `most_steps` steps.
    Raises ExportError, with the node's name, for what it has no code for (currents that are pooled
    or moved, random input spikes), and InputError for a name that is none, and where a file that
    `path` does not name would be replaced, unless it was written here.

    >>> written = sr.to_c(sr.to_integers(snn, bits=8), "firmware", name="digits")
    """
    if not name.isidentifier() or not name.isascii():
        raise InputError(f"name is {name!r}: give letters, digits and _, no digit first")
    source = Path(path) if Path(path).suffix == ".c" else Path(path) / f"{name}.c"
    header = source.with_suffix(".h")
    _check_files(Path(path), source, header)
    whole = graph if "integer_form" in graph.notes else to_integers(graph)
    found = layout(whole)
    types = ranges.types(whole, found)
    text = Text(types)
    tables = Tables(found, text)
    tables.fill()
    steps = ranges.most_steps(whole)
    words = _words(whole, found, types, tables, name, steps)
    words["FILE"] = header.name
    declared, defined = template("network.h", words).encode(), _source(tables, words).encode()
    write_whole(header, declared)
    write_whole(source, defined)
    return CSource(
        source=source,
        header=header,
        name=name,
        weights=text.weights,
        parameters=text.parameters,
        state=_state(tables, types, found, bool(words["PIXEL_TABLE"])),
        most_steps=steps,
        image_bits=ranges.image_bits(whole),
        shape=whole.input.shape,
    )


def _check_files(path: Path, source: Path, header: Path) -> None:
    """Raise InputError for names that no #include holds, and for others' files."""
    if not header.name.isprintable() or re.search(r'["\\]|\?\?', header.name):
        raise InputError(f"the file's name is {source.name!r}: leave out quotes, \\ and ??")
    for file in (source, header):
        if file != path and file.is_file() and MARK.encode() not in file.read_bytes()[:2000]:
            raise InputError(
                f"{file} is there, was written by others, and would be replaced: give another name"
            )


def _state(tables: Tables, types: Types, found: Layout, normalises: bool) -> int:
    """The bytes of memory that the program changes, but for a few words."""
    shapes = [o.target.shape for o in found.operations if isinstance(o, Population)]
    shapes.append(found.output.shape)
    scratch = most(iter(shapes), False) + most(iter(shapes), True)
    image = 2 * prod(found.graph.input.shape) if normalises else 0
    return (
        image
        + types.spikes * BYTES[types.spike]
        + tables.potentials * BYTES[types.potential]
        + tables.constants * BYTES[types.current]
        + 4 * (tables.counts + scratch + 2 * found.output.shape[0])
    )


def _words(
    graph: Graph, found: Layout, types: Types, tables: Tables, name: str, steps: int
) -> dict[str, str]:
    """What stands for the words of the templates."""
    channels, height, width = graph.input.shape
    output = graph.output
    targets = [o.target for o in found.operations if isinstance(o, Population)]
    shapes = [target.shape for target in targets] + [found.output.shape]
    membrane = "0"
    reads_membrane = output.readout == "spikes+membrane"
    if reads_membrane:
        index = [target.name for target in targets].index(output.inputs[0])
        first = sum(prod(target.shape) for target in targets[:index])
        membrane = f"potentials + {first}"
    words = {
        "NAME": name,
        "UPPER": name.upper(),
        "TITLE": _title(graph),
        "CHANNELS": channels,
        "HEIGHT": height,
        "WIDTH": width,
        "CLASSES": found.output.shape[0],
        "LAYERS": len(targets),
        "MOST_STEPS": steps,
        "IMAGE_BITS": ranges.image_bits(graph),
        "LOGIT_SCALE": repr(float(output.scale)),
        "DELAY": output.delay if output.readout == "mean" else 0,
        "SPIKE": types.spike,
        "WEIGHT": types.weight,
        "CURRENT": types.current,
        "POTENTIAL": types.potential,
        "LIMIT": types.limit,
        "SPIKES": types.spikes,
        "POTENTIALS": tables.potentials,
        "CONSTANTS": tables.constants,
        "COUNTS": tables.counts,
        "MOST_ROW": most(iter(shapes), False),
        "MOST_CHANNELS": most(iter(shapes), True),
        "SEEING": len(tables.views),
        "OPERATIONS": len(tables.order),
        "OUTPUT": tables.output,
        "POTENTIAL_OF_OUTPUT": membrane,
        "NAMES": ",\n".join(f'    "{_escaped(target.name)}"' for target in targets),
    }
    known = {word: str(value) for word, value in words.items()}
    table = _pixel_table(graph, tables.text)
    known["SET_PIXELS"] = "" if table is None else template("pixels.h", known)
    known["PIXEL_TABLE"] = table or ""
    known["MEMBRANE"] = template("membrane.h", known) if reads_membrane else ""
    return known


def _escaped(name: str) -> str:
    """The inside of a C string: UTF-8, octal but for what means itself in every C."""
    plain = re.compile(r"[ !#-\[\]-~]")
    return "".join(each if plain.fullmatch(each) and each != "?" else _octal(each) for each in name)


def _octal(character: str) -> str:
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))


def _title(graph: Graph) -> str:
    noted = graph.notes["integer_form"]
    data = graph.notes.get("dataset") or "images"
    return (
        f"{graph.input.shape} of {re.sub(r'[^a-zA-Z0-9_ .:/+-]', '_', str(data))} to "
        f"{graph.output.shape[0]} classes, weights of {noted['bits']} bits"
    )


def _pixel_table(graph: Graph, text: Text) -> str | None:
    """The name of a table of every 8-bit value of each channel, normalised; None if unknown."""
    noted = graph.notes.get("normalisation")
    channels = graph.input.shape[0]
    if not noted or len(noted["mean"]) not in (1, channels):
        return None
    values = torch.arange(LEVELS, dtype=torch.float32)[None] / 255
    mean, std = (torch.tensor(noted[key], dtype=torch.float32)[:, None] for key in ("mean", "std"))
    bits = ranges.image_bits(graph)
    whole = to_grid(((values - mean) / std).expand(channels, -1), bits) * 2.0**bits
    return text.array("int16_t", whole.clamp(-(2**15) + 1, 2**15 - 1).long())


def _source(tables: Tables, words: Mapping[str, str]) -> str:
    """The C file: types, constants, memory, tables, code."""
    parts = [
        f"/* Generated: an integer form as docs/integer_form.md {MARK}. */\n",
        f'#include "{words["FILE"]}"\n\n',
        template("tables.h", words),
        *tables.text.arrays,
        "\n",
        template("memory.c", words),
    ]
    for kind, name, rows in (
        ("synapses", "sources", tables.sources),
        ("population", "populations", tables.populations),
        ("pooling", "pools", tables.pools),
        ("moving", "moves", tables.moves),
        ("seeing", "views", tables.views),
        ("operation", "order", tables.order),
    ):
        body = ",\n".join(f"    {row}" for row in rows) or "    {0}"
        parts.append(f"static const {kind} {name}[{max(len(rows), 1)}] = {{\n{body}\n}};\n\n")
    parts.append(f"static const target output = {words['OUTPUT']};\n\n")
    parts.append(template("network.c", words))
    if words["PIXEL_TABLE"]:
        parts.append(template("pixels.c", words))
    if words["MEMBRANE"]:
        parts.append(template("membrane.c", words))
    return "".join(parts)
