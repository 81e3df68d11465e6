"""Masks within boxes as masks of whole pictures, by torchvision's pasting."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from detection.data.masks import Rle, encoded

INSIDE = 0.5  # probability above which a pixel belongs to an object (arXiv 1703.06870, section 3.1)
_PIXELS = 2**26  # that are pasted at once, a quarter of a gigabyte


def pasted(masks: Tensor, boxes_xyxy: Tensor, size_hw: tuple[int, int]) -> list[Rle]:
    """The masks of a picture's objects as run lengths.

    Args:
        masks: (N, S, S) probabilities within each box.
        boxes_xyxy: (N, 4) pixels of the picture.
        size_hw: its height and width.
    """
    found: list[Rle] = []
    step = max(1, _PIXELS // (size_hw[0] * size_hw[1]))
    for start in range(0, len(masks), step):
        part = slice(start, start + step)
        whole = paste_masks_in_image(masks[part, None].float().cpu(), boxes_xyxy[part].float().cpu(), size_hw)
        inside: np.ndarray = (whole[:, 0] > INSIDE).numpy()
        found += encoded(inside)
    return found


def pasted_batch(masks: Tensor, boxes_xyxy: Tensor, counts: list[int], sizes_hw: Tensor) -> list[list[Rle]]:
    """`pasted` for each picture of a batch.

    Args:
        masks: (B, m, S, S).
        boxes_xyxy: (B, M, 4) pixels of the pictures.
        counts: objects of each picture.
        sizes_hw: (B, 2).
    """
    return [
        pasted(masks[row, :count], boxes_xyxy[row, :count], (int(height), int(width)))
        for row, (count, (height, width)) in enumerate(zip(counts, torch.as_tensor(sizes_hw).tolist(), strict=True))
    ]
