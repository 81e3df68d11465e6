"""The notebooks of `examples/`: the real parser takes their commands, and they run from the first cell to the last."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.commands import commands, exists, lines, parses
from tests.house.source import ROOT

nbformat = pytest.importorskip("nbformat")
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))


def shell(path: Path) -> list[str]:
    """The lines of a notebook's cells for the shell."""
    cells = nbformat.read(path, 4).cells
    return [line for cell in cells if cell.source.startswith("%%bash") for line in lines(cell.source)[1:]]


def test_there_are_three_and_the_examples_name_them():
    assert len(NOTEBOOKS) == 3
    page = (ROOT / "examples/README.md").read_text()
    assert all(f"]({path.name})" in page for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_output_and_its_commands_exist(path):
    content = nbformat.read(path, 4)
    nbformat.validate(content)
    assert not [cell for cell in content.cells if cell.cell_type == "code" and (cell.outputs or cell.execution_count)]
    found = [command for line in shell(path) for command in commands(line)]
    assert len(found) >= 2
    for command in found:
        assert exists(command.program, ROOT)
        assert parses(command), command
    for target in re.findall(r"\]\((?!http)([^)]+)\)", "\n".join(cell.source for cell in content.cells)):
        assert (path.parent / target).exists(), target


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    # Its commands come from this checkout, whatever is installed; it runs in an empty folder.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("EFFDENSE_EXAMPLES", str(path.parent))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    client = NotebookClient(nbformat.read(path, 4), timeout=1500, resources={"metadata": {"path": str(tmp_path)}})
    ran = client.execute()  # raises where a cell does, a command that fails too
    shown = [output for cell in ran.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown) or "without" in path.stem
    assert list(tmp_path.rglob("last.ckpt"))
