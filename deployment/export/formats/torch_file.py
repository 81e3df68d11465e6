"""A program as a .pt2 file of torch.export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.exports.files import KEY, About
from engine.outputs import atomic_path

if TYPE_CHECKING:
    from torch.export import ExportedProgram


def write_torch(program: ExportedProgram, path: Path, about: About) -> Path:
    """Write a program, with what it says of itself.

    Raises:
        InputError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        torch.export.save(program, temporary, extra_files={f"{KEY}.json": about.to_json()})
    return path
