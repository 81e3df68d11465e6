"""Multi-scale training: steps on canvases of several sizes, drawn from the seed and the step alone."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

GRID = 32  # pixels, of which the longer side of a drawn canvas is a multiple, as in YOLOX (arXiv 2107.08430, 2.1)
EVERY = 10  # steps with one canvas, as there: a new one costs memory and time


def canvases(canvas_hw: tuple[int, int], spread: float) -> list[tuple[int, int]]:
    """The canvases that steps may have, the smallest first; the given one is among them.

    Args:
        canvas_hw: height and width.
        spread: by which share the longer side may be shorter or longer.

    >>> canvases((64, 128), 0.3)
    [(48, 96), (64, 128), (80, 160)]
    """
    longer = max(canvas_hw)
    sides = range(-(-int(longer * (1 - spread)) // GRID) * GRID, int(longer * (1 + spread)) + 1, GRID)
    factors = sorted({side / longer for side in sides if side} | {1.0})
    return [(max(1, round(canvas_hw[0] * factor)), max(1, round(canvas_hw[1] * factor))) for factor in factors]


def canvas_at(step: int, seed: int, choices: list[tuple[int, int]]) -> tuple[int, int]:
    """The canvas of a step, the same on every process and after an interruption."""
    draw = np.random.default_rng([seed, step // EVERY])
    return choices[int(draw.integers(len(choices)))]


def resized_images(images: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Images (B, 3, H, W) uint8 at another size, with antialiasing; channels stay last in memory."""
    floats = functional.interpolate(images.float(), size_hw, mode="bilinear", antialias=True)
    found: Tensor = floats.round().clamp(0, 255).to(torch.uint8)
    return found


def resized_labels(labels: Tensor, size_hw: tuple[int, int]) -> Tensor:
    """Labels (N, H, W) uint8 at another size: that of the nearest pixel."""
    if not len(labels):
        return labels.new_empty((0, *size_hw))
    return functional.interpolate(labels[:, None], size_hw, mode="nearest-exact")[:, 0]


def resized_boxes(boxes_xyxy: Tensor, before_hw: tuple[int, int], size_hw: tuple[int, int]) -> Tensor:
    """Boxes (..., 4) on a canvas of another size."""
    (height, width), (new_height, new_width) = before_hw, size_hw
    return boxes_xyxy * boxes_xyxy.new_tensor([new_width / width, new_height / height] * 2)
