"""What every graph for export is, and the copy of a network that it holds."""

from __future__ import annotations

import copy
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from backbones.folding import Foldable
from deployment.export.operators import exportable
from detection.network.postprocess import Postprocess

Copied = TypeVar("Copied", bound=Foldable)


class Form(NamedTuple):
    """What a graph holds besides the network.

    Attributes:
        postprocess: settings of the suppression; None leaves it out, and with it the decoding.
        argmax: whether classes of pixels come out, rather than their logits.
        image_hw: the one height and width that the graph is for; None leaves them open.
        layout: `frigate` gives boxes as one table of one image, see `BoxOutputs`.
    """

    postprocess: Postprocess | None
    argmax: bool
    image_hw: tuple[int, int] | None
    layout: Literal["own", "frigate"] = "own"


class Graph(nn.Module):
    """A network and its form.

    Attributes:
        inputs: names of the arguments of `forward`.
        outputs: names of its results.
        multiple: what open heights and widths are multiples of.
        least: the smallest open height and width that it is traced for.
    """

    inputs: tuple[str, ...] = ("images",)
    outputs: tuple[str, ...] = ()
    multiple = 1
    least = 129  # below it the coarsest maps have one cell, which torch.export takes for a case of its own


def prepared(network: Copied) -> Copied:
    """A folded copy of a network in evaluation mode whose layers exporters know."""
    # The order of values in memory would tie a graph to sizes above one cell.
    own = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)
    own.requires_grad_(False)
    own.fold()
    exportable(own)
    return own


def normalised(mean: Tensor, std: Tensor, images: Tensor) -> Tensor:
    """(B, 3, H, W) of 0..255 in the backbone's range."""
    return (images.to(mean.dtype) - mean) / std
