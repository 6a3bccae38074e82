"""Settings of the documentation site: `make docs` builds it."""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
ABOUT = tomllib.loads((HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = ABOUT["name"]
release = ABOUT["version"]
author = "the authors of spiking-resnet"
copyright = f"{author}, MIT licence"

extensions = [
    "myst_nb",  # Markdown pages and notebooks
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "sphinx_design",
    "mathml",
    "plain_docstrings",
]
exclude_patterns = ["_ext"]

myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4  # links to headings, as GitHub makes them
nb_execution_mode = "off"  # notebooks are shown as they were run; a test runs them

autodoc_typehints = "none"  # they stand in the signature
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = project
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

OUTSIDE = re.compile(r"\[([^\]\n]+)\]\(((?:\.\./)+[^)\s]+)\)")


def without_links_outside(app, page, source):
    """Let links out of docs/ lead to the repository, or nowhere if its address is unknown."""
    folder = (HERE / page).parent

    def link(found):
        target = (folder / found[2]).resolve()
        if target.is_relative_to(HERE):
            return found[0]
        path = target.relative_to(HERE.parent)
        repository = ABOUT.get("urls", {}).get("Repository")
        return f"[{found[1]}]({repository}/blob/main/{path})" if repository else found[1]

    source[0] = OUTSIDE.sub(link, source[0])


def with_notebooks(app, config):
    """Copy the notebooks to where Sphinx finds them."""
    (HERE / "notebooks").mkdir(exist_ok=True)
    for path in sorted((HERE.parent / "notebooks").glob("*.ipynb")):
        target = HERE / "notebooks" / path.name
        if not target.exists() or target.read_bytes() != path.read_bytes():
            target.write_bytes(path.read_bytes())


def setup(app):
    """Register what is done to each page."""
    app.connect("config-inited", with_notebooks)
    app.connect("source-read", without_links_outside)
