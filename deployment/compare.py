"""How far the outputs of a file are from those of its network."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST = 1e-3  # what rounding may change, in shares of the largest output
LARGEST_RESIZED = 0.05  # what another rounding of some pixels may change besides: a wrong canvas changes more


def patches(count: int, image_hw: tuple[int, int]) -> Tensor:
    """(B, 3, H, W) uint8 images of soft patches in random colours; networks see nothing in mere noise."""
    random = torch.Generator().manual_seed(0)
    height, width = image_hw
    small = torch.rand((count, 3, -(-height // 32), -(-width // 32)), generator=random)
    return F.interpolate(255 * small, (height, width), mode="bilinear").to(torch.uint8)


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest difference, in shares of the largest value above 1; of whole numbers the share that differs."""
    if not expected.is_floating_point():
        return float((found != expected).float().mean())
    if found.ndim == 2:  # scores of boxes by falling score; a file may have rows beyond those that can be used
        width = max(found.shape[1], expected.shape[1])
        found, expected = (F.pad(each, (0, width - each.shape[1])) for each in (found, expected))
    scale = max(1.0, float(expected.abs().max()))
    return float((found.double() - expected.double()).abs().max()) / scale
