"""The notebook of examples/ runs from its first cell to its last, in a folder of its own."""

import re

import nbformat
import pytest
from nbclient import NotebookClient

from tests.commandline import ROOT, environment
from tests.stores import place_store


@pytest.mark.slow
def test_the_first_steps_train_a_run_score_images_and_show_a_map(tmp_path, monkeypatch):
    for name, value in environment().items():
        monkeypatch.setenv(name, value)
    place_store(tmp_path)
    notebook = nbformat.read(ROOT / "examples" / "first_steps.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    text = "".join(output.get("text", "") for output in outputs)
    means = dict(re.findall(r"^(\w+) +\d+ images, mean score (-?[\d.]+)$", text, re.MULTILINE))
    assert {"good"} < means.keys()
    assert all(float(mean) > float(means["good"]) for kind, mean in means.items() if kind != "good")
    (shown,) = [output.data for output in outputs if "image/png" in output.get("data", {})]
    assert len(shown["image/png"]) > 5000
    assert not [output for output in outputs if output.output_type == "error"]
