"""The notebooks run, and what their marked cells say is what they are kept with."""

import ast
import json

import pytest

pytest.importorskip("nbclient", reason="the notebooks are run by nbclient")

import nbformat

from docs.run_notebooks import NOTEBOOKS, executed

pytestmark = pytest.mark.whole


def key_numbers(notebook):
    """What the cells with the tag "key" show, by name."""
    found = {}
    for cell in notebook.cells:
        if "key" in cell.metadata.get("tags", ()):
            found |= ast.literal_eval(cell.outputs[-1].data["text/plain"])
    return found


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_kept_with_their_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert key_numbers(notebook)
    kinds = {kind for cell in code for output in cell.outputs for kind in output.get("data", {})}
    assert kinds <= {"text/plain", "text/html", "image/png"}
    assert "<script" not in json.dumps(notebook)


@pytest.mark.sweep
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_say_what_they_are_kept_with(path, tmp_path, monkeypatch):
    monkeypatch.delenv("SPIKING_RESNET_DATA", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kept = key_numbers(nbformat.read(path, as_version=4))
    assert key_numbers(executed(path, tmp_path)) == pytest.approx(kept, abs=0.005)
