"""The package's docstrings as what Sphinx reads: plain text with `code`, parameters as "name: …".

A sentence that begins with names of parameters or fields and a colon says what these are. Indented
lines go on with it; where none is open they are set as they stand. Examples begin with >>>.
"""

import dataclasses
import inspect
import re

MARKUP = re.compile(r"([\\*|_<>])")
NAMES = re.compile(r"(?:^|(?<=[.;)] ))((?:[a-z_0-9]+)(?:, [a-z_0-9]+)*): ")


def escaped(text):
    """Return text in which only `code` is markup."""
    parts = text.split("`")
    return "".join(
        f"``{part}``" if index % 2 and part else MARKUP.sub(r"\\\1", part)
        for index, part in enumerate(parts)
    )


def parameters(thing):
    """Return the names that a docstring of this may explain."""
    names = set()
    if dataclasses.is_dataclass(thing):
        names |= {field.name for field in dataclasses.fields(thing)}
    try:
        names |= set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return names
    return names


def paragraphs(lines):
    """Yield the parts between empty lines."""
    part = []
    for line in [*lines, ""]:
        if line.strip():
            part.append(line)
        elif part:
            yield part
            part = []


def said(text, known):
    """Return what stands before any name that is explained, and (names, explanation) of these."""
    found = [
        match
        for match in NAMES.finditer(text)
        if set(match[1].split(", ")) <= known or (match.start() == 0 and match[1] in known)
    ]
    if not found:
        return text, []
    ends = [match.start() for match in found[1:]] + [len(text)]
    told = [
        (match[1], text[match.end() : end].strip()) for match, end in zip(found, ends, strict=True)
    ]
    return text[: found[0].start()].strip(), told


def blocks(part):
    """Yield (whether it is indented in full, lines) of a paragraph; hanging lines are joined."""
    if all(line.startswith("    ") for line in part):
        yield True, part
    else:
        yield False, [" ".join(line.strip() for line in part)]


def plain(lines, known):
    """Return a docstring's lines as reStructuredText: text, parameters, errors, examples."""
    made, errors, examples = [], "", []
    for part in paragraphs(lines):
        if part[0].lstrip().startswith(">>>"):
            examples += ["", ".. code-block:: pycon", "", *(f"   {line}" for line in part), ""]
            continue
        for literal, block in blocks(part):
            if literal:
                made += ["", "::", "", *(f"   {line}" for line in block), ""]
                continue
            text, errors = (block[0], errors) if errors else without_errors(block[0])
            before, told = said(text, known)
            made += ["", escaped(before), ""] if before else []
            made += ["", *(f"- **{name}**: {escaped(text)}" for name, text in told), ""]
    made += ["", f"**Raises** {escaped(errors)}", ""] if errors else []
    return [*made, *examples]


def without_errors(text):
    """Return a paragraph without the sentences on errors that end it, and these."""
    before, found, after = text.partition("Raises ")
    ends = found and (not before or before.endswith((". ", ": ")))
    return (before.strip(), after) if ends else (text, "")


def process(app, what, name, thing, options, lines):
    """Put the reading of a docstring in its place."""
    if isinstance(thing, property):
        thing = thing.fget
    lines[:] = plain(lines, parameters(thing))


def setup(app):
    """Register with Sphinx."""
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
