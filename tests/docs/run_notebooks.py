"""Run the notebooks, and keep their outputs.

Run: python tests/docs/run_notebooks.py [notebooks/NAME.ipynb …]
"""

import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def kept(output):
    """Whether an output is no progress, shown and taken away again."""
    return output.get("name") != "stderr" and output.get("data") != {"text/plain": ""}


def executed(path, folder):
    """The notebook at a path with fresh outputs; its cells run in `folder`."""
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=600, kernel_name="python3", resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # when each cell ran
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if kept(output)]
    notebook.metadata.language_info = {"name": "python"}  # not the version that ran it
    return notebook


if __name__ == "__main__":
    os.environ.pop("SPIKING_RESNET_DATA", None)
    os.environ["COLUMNS"] = "88"  # of tables
    for path in NOTEBOOKS if len(sys.argv) == 1 else map(Path, sys.argv[1:]):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(executed(path, folder), path)
