"""The best boxes of images, as many rows for each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def best_rows(
    boxes_xyxy: Tensor, kept: Tensor, class_ids: Tensor, count: int, least: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The boxes that a suppression has kept, by falling score.

    Args:
        boxes_xyxy: (B, M, 4).
        kept: (B, M) scores, 0 for boxes that are dropped.
        class_ids: (B, M).
        count: N rows for each image.
        least: the smallest M there can be; below N, empty rows are put beside.

    Returns:
        (B, N, 4) boxes; (B, N) scores; (B, N) classes, -1 in rows that are not used.
    """
    lacking = max(0, count - least)
    if lacking:  # so that there are as many rows, however small the images and however few the classes
        kept, class_ids = F.pad(kept, (0, lacking)), F.pad(class_ids, (0, lacking))
        boxes_xyxy = F.pad(boxes_xyxy, (0, 0, 0, lacking))
    best, rows = kept.topk(count, dim=1)
    used = best > 0
    found = boxes_xyxy.gather(1, rows[..., None].expand(-1, -1, 4))
    found = torch.where(used[..., None], found, torch.zeros_like(found))
    return found, best, torch.where(used, class_ids.gather(1, rows), torch.full_like(rows, -1))


def table(found: Tensor, best: Tensor, found_ids: Tensor) -> Tensor:
    """The rows as Frigate reads them: (B * N, 7) image, left, top, right, bottom, score and class."""
    images = torch.arange(len(best), dtype=best.dtype)[:, None].expand_as(best)
    columns = (images[..., None], found, best[..., None], found_ids[..., None].to(best.dtype))
    return torch.cat(columns, dim=2).flatten(0, 1)
