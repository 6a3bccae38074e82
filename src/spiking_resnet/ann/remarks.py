"""Remarks: warnings to a user although nothing failed."""

import warnings


class Remark(UserWarning):
    """Something was chosen or left out; the message says what, and how to choose otherwise."""


def remark(text: str) -> None:
    """Issue a Remark, which the command line shows as a warning of its own."""
    warnings.warn(text, Remark, stacklevel=3)
