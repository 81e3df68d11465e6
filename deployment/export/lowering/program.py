"""A network as a program of PyTorch's own operators, for one size, as ExecuTorch takes it."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from timm.layers import get_same_padding
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from backbones.grid import feature_grid, repeated, resample_joined, size_hw
from deployment.export.kinds.contract import Graph
from deployment.export.lowering.layers import as_lowered
from deployment.export.trace import program_of


def plain_program(graph: Graph, image_hw: tuple[int, int], batch: int) -> ExportedProgram:
    """The program of a graph, in which none of this project's operators is left.

    Args:
        graph: of a folded network, see `deployment.export.graphs`; a copy of it is taken.
        image_hw: height and width of its images.
        batch: number of its images.
    """
    own = copy.deepcopy(graph)
    as_lowered(own)
    operators = torch.ops.effdense
    program: ExportedProgram = program_of(own, image_hw, batch).run_decompositions(
        {
            operators.conv_same.default: _conv_same,
            operators.pool_same.default: _pool_same,
            operators.resample.default: _resample,
        }
    )
    _leave_copies_out(program)
    return program


def _leave_copies_out(program: ExportedProgram) -> None:
    """Take out copies of maps, which cut the graph: XNNPACK takes only those behind a permutation, where heads end."""
    aten = torch.ops.aten
    for node in list(program.graph.nodes):
        if node.target not in (aten.alias.default, aten.clone.default):
            continue
        source = node.args[0]
        assert isinstance(source, Node)
        if source.target != aten.permute.default:
            node.replace_all_uses_with(source)
            program.graph.erase_node(node)
    program.graph_module.recompile()


def _conv_same(features: Tensor, weight: Tensor, bias: Tensor | None, stride: int, groups: int) -> Tensor:
    """The padding as an operator of its own, where the convolution's is not uneven: XNNPACK joins the two."""
    totals = [
        get_same_padding(side, size, stride, 1) for side, size in zip(features.shape[2:], weight.shape[2:], strict=True)
    ]
    before = [total // 2 for total in totals]
    if any(total % 2 for total in totals):
        top, left = before
        features = F.pad(features, (left, totals[1] - left, top, totals[0] - top))
        before = [0, 0]
    return F.conv2d(features, weight, bias, stride, before, groups=groups)


def _pool_same(features: Tensor) -> Tensor:
    """A side of even size is padded by its last cells, which lie in the same windows and so change no maximum."""
    height, width = size_hw(features)
    padded = repeated(repeated(features, 2, 0, 1 - height % 2), 3, 0, 1 - width % 2)
    return F.max_pool2d(padded, 3, stride=2, padding=(height % 2, width % 2))


def _resample(maps: Tensor, like: Tensor, images: Tensor, stride: int, onto: int, same_padding: bool) -> Tensor:
    image_hw = size_hw(images)
    grids = [feature_grid(image_hw, each, same_padding=same_padding) for each in (stride, onto)]
    return resample_joined(maps, grids[0], grids[1], size_hw(like))
