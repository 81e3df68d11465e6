"""From logits on the canvas to the classes of the original image's pixels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.reading.images import Letterbox
from joint.network.model import JointAnswers

_MOST_VALUES = 2**26  # logits at the original size that are in memory at a time: a quarter of a gigabyte


def original_classes(answers: JointAnswers, number: int, letterbox: Letterbox) -> Tensor:
    """The class of each pixel of one original image: rows of the class list, uint8, at its own height and width.

    Args:
        answers: those of a batch, with logits or with classes.
        number: the place of the image in the batch.
        letterbox: the place of the image on its canvas.
    """
    if answers.rows is not None:
        return enlarged_rows(answers.rows[number], letterbox)
    assert answers.outputs.segmentation is not None
    return original_rows(answers.outputs.segmentation.logits[number], letterbox)


def enlarged_rows(rows: Tensor, letterbox: Letterbox) -> Tensor:
    """The class of each pixel of the original image, from the classes on the canvas: that of the nearest pixel there.

    Args:
        rows: (H, W) uint8 on the canvas.
        letterbox: the place of the image on it.

    Returns:
        Rows of the class list, uint8, at the original height and width.
    """
    inside = rows[: letterbox.scaled_hw[0], : letterbox.scaled_hw[1]]
    return F.interpolate(inside[None, None], letterbox.image_hw, mode="nearest-exact")[0, 0]


def original_rows(logits: Tensor, letterbox: Letterbox) -> Tensor:
    """The most likely class of each pixel of the original image, from logits on the canvas.

    Logits are resized bilinearly, some classes at a time: for a large photograph, the logits of all classes would not
    fit into memory.

    Args:
        logits: (K, H, W) on the canvas.
        letterbox: the place of the image on it.

    Returns:
        Rows of the class list, uint8, at the original height and width.
    """
    inside = logits[:, : letterbox.scaled_hw[0], : letterbox.scaled_hw[1]].float()
    if letterbox.scaled_hw == letterbox.image_hw:
        return inside.argmax(0).to(torch.uint8)
    height, width = letterbox.image_hw
    best = inside.new_full((height, width), -torch.inf)
    rows = torch.zeros((height, width), dtype=torch.uint8, device=logits.device)
    first = 0
    for part in torch.split(inside, max(1, _MOST_VALUES // (height * width))):
        resized = F.interpolate(part[None], (height, width), mode="bilinear", align_corners=False)[0]
        values, places = resized.max(0)
        surer = values > best  # of equal values the first class wins, as in an argmax over all
        rows = torch.where(surer, (places + first).to(torch.uint8), rows)
        best = torch.where(surer, values, best)
        first += len(part)
    return rows
