"""From a network to a .pte file: exported here, and lowered to XNNPACK in an environment of its own."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from deployment.export.kinds.contract import Graph
from deployment.export.lowering.program import plain_program
from deployment.setup.environment import EXECUTORCH, tell_user
from engine.exports.files import About
from engine.outputs import write_text

SCRIPT = Path(__file__).parents[2] / "executorch" / "lowering_script.py"


def write_pte(
    graph: Graph,
    path: Path,
    about: About,
    tell: Callable[[str], None] = tell_user,
) -> None:
    """Write a graph as a .pte file.

    Args:
        graph: of a folded network, without a suppression, which is no operator of ExecuTorch.
        path: the file.
        about: what it says of itself; names the size and number of its images.
        tell: takes a line about what takes minutes, and about operators that XNNPACK leaves to slower ones.

    Raises:
        InputError: the environment cannot be made, or ExecuTorch refuses the network.
    """
    assert about.image_hw is not None
    assert about.batch is not None
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as beside:
        program = Path(beside, "network.pt2")
        torch.export.save(plain_program(graph, about.image_hw, about.batch), program)
        lower(program, path, about, tell)


def lower(program: Path, path: Path, about: About, tell: Callable[[str], None]) -> None:
    """Write a program of torch.export as a .pte file.

    Args:
        program: the .pt2 file.
        path: the .pte file.
        about: what that says of itself.
        tell: as in `write_pte`.

    Raises:
        InputError: as `write_pte`.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}.") as beside:
        text = Path(beside, "about.json")
        write_text(text, about.to_json())
        EXECUTORCH.make(tell)
        said = EXECUTORCH.run(SCRIPT, [program, path, text])
    found = json.loads(said.splitlines()[-1])
    others = ", ".join(found["others"]) or "nothing"
    tell(f"XNNPACK computes the network in {found['pieces']} piece(s); ExecuTorch's own operators are {others}")
