"""Escape text from files for a terminal, so that it cannot move the cursor or hide anything.

Names of layers, notes, keys of checkpoints and folders may hold escape sequences, line breaks and
characters that turn the direction of writing; they are shown as the escapes of a Python string.
"""


def printable(text: str, keep: str = "") -> str:
    """`text` with every character escaped that is not printed as itself, but for those to keep."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else _escaped(c) for c in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()
