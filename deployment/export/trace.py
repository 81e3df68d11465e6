"""A graph as a program of torch.export, with named open sizes."""

from __future__ import annotations

import torch
from torch.export import Dim, ExportedProgram

from deployment.export.kinds.contract import Graph

MOST = 16_384


def program_of(graph: Graph, image_hw: tuple[int, int] | None, batch: int | None) -> ExportedProgram:
    """The program.

    Args:
        graph: the graph.
        image_hw: the one height and width; None leaves both open.
        batch: the one number of images; None leaves it open.
    """
    # Of two images, and of sides that differ: a size of one would be taken as fixed.
    count = 2 if batch is None else batch
    step = graph.multiple
    traced_hw = image_hw or (-(-288 // step) * step, -(-352 // step) * step)
    images = torch.zeros((count, 3, *traced_hw), dtype=torch.uint8)
    sizes: dict[int, object] = {}
    if batch is None:
        sizes[0] = Dim("batch", min=1, max=1024)
    if image_hw is None:
        least, most = -(-graph.least // step), MOST // step
        sides = [Dim(name, min=least, max=most) for name in ("height", "width")]
        sizes |= {axis: side if step == 1 else step * side for axis, side in zip((2, 3), sides, strict=True)}
    given: dict[str, object] = {"images": images}
    open_sizes: dict[str, object] = {"images": sizes}
    if "sizes_hw" in graph.inputs:
        given["sizes_hw"] = torch.tensor([traced_hw] * count, dtype=torch.float32)
        open_sizes["sizes_hw"] = {0: sizes[0]} if batch is None else {}
    with torch.no_grad():
        return torch.export.export(graph, (), given, dynamic_shapes=open_sizes)
