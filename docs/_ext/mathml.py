"""Formulas as MathML, which browsers show by themselves: pages load no script from elsewhere."""

from docutils import nodes
from docutils.utils.math import latex2mathml


def mathml(text: str, display: str) -> str:
    """Return a LaTeX formula as the MathML element that shows it."""
    return str(latex2mathml.tex2mathml(text, as_block=display == "block"))


def inline(translator, node):
    """Write a formula within a line."""
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def block(translator, node):
    """Write a formula of its own."""
    translator.body.append(f"<div>{mathml(node.astext(), 'block')}</div>")
    raise nodes.SkipNode


def setup(app):
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
