"""Class-activation maps at the cells of a network's feature maps, by grad-cam (pytorch-grad-cam).

An output is explained by the feature maps that a head reads: by each map's values, and by how the output changes with
them. What lies before these maps is not differentiated, so that a box costs one pass through a head.

Sources: Jiang et al., "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization" (IEEE TIP 2021);
Draelos and Carin, "Use HiResCAM instead of Grad-CAM" (arXiv 2011.08891).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from engine.reading.images import FloatArray

Method = Literal["layercam", "hirescam"]


class Maps:
    """The feature maps of a pass, which are where differentiation begins."""

    def __init__(self) -> None:
        self.levels: list[Tensor] = []

    def begin(self, levels: Sequence[Tensor]) -> list[Tensor]:
        """The same maps without what they were computed from."""
        self.levels = [level.detach().requires_grad_() for level in levels]
        return self.levels


@contextmanager
def explained_maps(part: nn.Module) -> Iterator[Maps]:
    """The feature maps that a part of a network returns in a pass; afterwards the part is as it was.

    Args:
        part: its answer is a list of feature maps.
    """
    maps = Maps()
    handle = part.register_forward_hook(lambda module, given, levels: maps.begin(levels))
    try:
        with torch.enable_grad():
            yield maps
    finally:
        handle.remove()


def cell_maps(network: nn.Module, number: Tensor, maps: Maps, method: Method) -> list[FloatArray]:
    """Where an output rests on each feature map.

    Args:
        network: the network.
        number: one output, of one image.
        maps: what it was computed from.
        method: `layercam` weights each value of a map with its own gradient where that is positive; `hirescam` with its
            gradient of either sign. What is negative in the sum over channels is dropped.

    Returns:
        For each feature map (h, w), 0 everywhere where the output does not depend on the map.
    """
    from pytorch_grad_cam import HiResCAM, LayerCAM

    gradients = torch.autograd.grad(number, maps.levels, retain_graph=True, allow_unused=True, materialize_grads=True)
    # The library's own pass takes it that each layer is computed from the one before, and stretches every map over
    # the image from corner to corner; here maps of several levels meet in a head, and have places of their own.
    with {"layercam": LayerCAM, "hirescam": HiResCAM}[method](network, []) as cam:
        found: list[FloatArray] = [
            np.maximum(cam.get_cam_image(None, None, None, level.detach().numpy(), gradient.numpy(), False)[0], 0)
            for level, gradient in zip(maps.levels, gradients, strict=True)
        ]
    return found
